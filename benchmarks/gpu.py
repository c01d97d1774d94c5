"""Times trainings and a sweep on a GPU, beside PyTorch.

  python benchmarks/gpu.py --data_dir=data [--json]

On a GPU box (`pip install torch`, or PyTorch is left out); without --json the
same in lines:

steps: a training step, batches of 128, at widths 64 to 8, in float32, TF32 and
  bfloat16: in runs of 100 steps, ours as one compiled operation (`loop`), and
  the same network and update in PyTorch: `eager`; `compiled`, the loss by
  torch.compile with CUDA graphs; `graphed`, the whole compiled step as one CUDA
  graph. All make their batches on the GPU from the stored bytes. At widths 64
  and 8 also ours operation by operation (`plain`), and the loop with
  TF_DETERMINISTIC_OPS=1 (`deterministic`). Medians of 10 runs after 5, in turn,
  each precision of each library in a process of its own (timing.py).
kernels: the share of a loop's time in which kernels run, at widths 64 and 8.
bits: whether two trainings of 400 steps give the same, without and with
  TF_DETERMINISTIC_OPS=1.
epochs: 128 at width 64 with --evaluate, from the command to its end.
sweep: run_experiments.sh with one seed, five cells at a time.

--part=NAME makes one of these parts; what a part has measured is shown on
standard error at once, so that nothing is lost if the machine goes.

--json prints one object: device, date, machine, runs and steps_per_run;
step_ms_width64 and step_ms_width8 (the loop in float32);
speedup_vs_pytorch_best (width 64: the fastest PyTorch over the loop, in the
precision where this is least); milliseconds_per_step (by competitor, precision
and width); kernel_share_width64 and _width8; same_bits (without the setting,
with it); seconds_128_epochs and top1_128_epochs; seconds_sweep_one_seed. What
was left out has no key.

Without a GPU that TensorFlow sees, a small form shows that it works: width 8,
float32, runs of 3 steps of 8 images, the loop compiled for the processor; a
hundredth of an epoch, no kernels, no sweep.
"""
import json
import os
import subprocess
import sys
import tempfile
import time

import timing   # No TensorFlow, no PyTorch: those are for the processes.

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir)
sys.path.insert(1, ROOT)

from thinet import devices

GPU = bool(devices.gpu()) and devices.has_cuda()
BATCH_SIZE = 128 if GPU else 8
WIDTHS = [64, 48, 32, 24, 16, 8] if GPU else [8]
ENDS = 64, 8
PRECISIONS = ['float32', 'tf32', 'bfloat16'] if GPU else ['float32']
DETERMINISTIC = {'TF_DETERMINISTIC_OPS': '1'}   # XLA takes it, too.
RUNS, STEPS_PER_RUN = 10, 100 if GPU else 3
EPOCHS = 128 if GPU else 0.01
SECONDS = 3600   # The most that a command of the suite may take.


# ---------------------------------------------- the processes: what each makes


def our_model(data_dir, width, precision):
  """Builds a training; returns (session, hooks.Model)."""
  import cifar10
  import cifar10_train
  from thinet import loop
  from thinet import operations
  from thinet import tensorflow as tf
  if not GPU:
    operations.on_gpu, loop.DEVICE = lambda: True, '/device:CPU:0'
  cifar10.FLAGS(['gpu', '--data_dir=' + data_dir, '--precision=' + precision,
                 '--batch_size=%d' % BATCH_SIZE])
  cifar10.maybe_download_and_extract()
  plan = cifar10_train.make_plan(cifar10.PUBLISHED, cifar10.Widths(width), {})
  with tf.Graph().as_default():
    model = cifar10_train.build_model(plan._replace(test_examples=0),
                                      'training', {})
    session = tf.Session(config=cifar10.session_config(
        cifar10.towers(BATCH_SIZE)))
    session.run([tf.global_variables_initializer(),
                 tf.local_variables_initializer()])
  tf.config.experimental.enable_tensor_float_32_execution(precision == 'tf32')
  return session, model


def ours(data_dir, precision):
  """This suite's steps."""
  runs = {}
  for width in WIDTHS:
    session, model = our_model(data_dir, width, precision)
    def plain(session=session, model=model):
      for _ in range(STEPS_PER_RUN):
        session.run(model.train_op)
    def loop(session=session, model=model):
      session.run(model.loop.made, {model.loop.count: STEPS_PER_RUN})
    if width in ENDS:
      runs['plain %s %d' % (precision, width)] = plain
    runs['loop %s %d' % (precision, width)] = loop
  return runs


def pytorch(data_dir, precision):
  """The same batches, network and update in PyTorch, eager and compiled."""
  make = pytorch_maker(data_dir, precision)
  return {'%s %s %d' % (name, precision, width): make(width, name)
          for width in WIDTHS for name in ('eager', 'compiled')}


def graphed(data_dir, precision):
  """The same with the whole step as one CUDA graph."""
  make = pytorch_maker(data_dir, precision)
  return {'graphed %s %d' % (precision, width): make(width, 'graphed')
          for width in WIDTHS}


def pytorch_maker(data_dir, precision):
  """Returns a function of (width, how) that makes a run of PyTorch's steps."""
  import cifar10_input
  import numpy as np
  import pytorch_network
  import torch
  device = torch.device('cuda' if GPU else 'cpu')
  torch.backends.cuda.matmul.allow_tf32 = precision == 'tf32'
  torch.backends.cudnn.allow_tf32 = precision == 'tf32'
  torch.backends.cudnn.benchmark = True
  records = np.concatenate([
      np.fromfile(path, np.uint8).reshape(-1, cifar10_input.RECORD_BYTES)
      for path in cifar10_input.data_files(
          cifar10_input.data_folder(data_dir), 'train_eval')])
  all_labels = torch.tensor(records[:, 0].astype(np.int64), device=device)
  all_images = torch.tensor(records[:, 1:], device=device).reshape(
      -1, 3, cifar10_input.RECORD_SIDE, cifar10_input.RECORD_SIDE)

  if GPU:   # Or CUDA graphs would copy the images at every step.
    for tensor in (all_images, all_labels):
      torch._dynamo.mark_static_address(tensor)

  def make(width, how):
    network = pytorch_network.Network(width).to(
        device, memory_format=torch.channels_last)
    averages = [p.detach().clone() for p in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), 0.1, fused=GPU)

    def loss_of(indices):
      images = pytorch_network.distorted(all_images, indices)
      with torch.autocast(device.type, torch.bfloat16,
                          enabled=precision == 'bfloat16'):
        logits = network(images)
      return torch.nn.functional.cross_entropy(
          logits.float(), all_labels[indices]) + network.decay()

    if how != 'eager':
      loss_of = torch.compile(
          loss_of, mode='reduce-overhead' if how == 'compiled' else 'default')

    def step(indices):
      optimizer.zero_grad()
      loss_of(indices).backward()
      optimizer.step()
      with torch.no_grad():
        torch._foreach_lerp_(averages, list(network.parameters()), 1e-4)

    if how == 'graphed':
      step = one_graph(torch, step, torch.arange(BATCH_SIZE, device=device))

    def run():
      order = torch.randperm(len(all_labels), device=device)
      for number in range(STEPS_PER_RUN):
        step(order[number * BATCH_SIZE:(number + 1) * BATCH_SIZE])
      if GPU:
        torch.cuda.synchronize()
    return run

  return make


def one_graph(torch, step, indices):
  """Captures a step as a CUDA graph; returns what replays it.

  Args:
    torch: the module.
    step: function of a batch's indices.
    indices: int64 [batch]; where the graph reads them.
  """
  beside = torch.cuda.Stream()
  beside.wait_stream(torch.cuda.current_stream())
  with torch.cuda.stream(beside):   # Compiles, and makes its workspaces.
    for _ in range(3):
      step(indices)
  torch.cuda.current_stream().wait_stream(beside)
  graph = torch.cuda.CUDAGraph()
  with torch.cuda.graph(graph):
    step(indices)

  def replay(others):
    indices.copy_(others)
    graph.replay()
  return replay


def deterministic(data_dir):
  """The loop with operations that give the same bits each time."""
  os.environ.update(DETERMINISTIC)   # Before TensorFlow is imported.
  return {name.replace('float32', 'deterministic'): run
          for name, run in ours(data_dir, 'float32').items()
          if name in ['loop float32 %d' % width for width in ENDS]}


def kernel_share(data_dir, width):
  """Share of a loop's time in which kernels run on the GPU, to 1 us each."""
  from thinet import tensorflow as tf
  session, model = our_model(data_dir, width, 'float32')
  count = {model.loop.count: STEPS_PER_RUN}
  session.run(model.loop.made, count)
  start = time.perf_counter()
  session.run(model.loop.made, count)
  whole = time.perf_counter() - start
  traced = tf.RunMetadata()
  session.run(model.loop.made, count, tf.RunOptions(
      trace_level=tf.RunOptions.FULL_TRACE), traced)
  spans = [(node.all_start_micros,
            node.all_start_micros + node.op_end_rel_micros)
           for device in traced.step_stats.dev_stats
           if device.device.endswith('stream:all')
           for node in device.node_stats]
  return busy(spans) / 1e6 / whole if spans else None


def busy(spans):
  """Length of the union of spans (start, end)."""
  length, reached = 0, float('-inf')
  for start, end in sorted(spans):
    length += max(0, end - max(start, reached))
    reached = max(reached, end)
  return length


# --------------------------------------------------- the parent: asks in turn


PROCESSES = dict(
    {'ours ' + each: lambda data_dir, each=each: ours(data_dir, each)
     for each in PRECISIONS},
    **{'pytorch ' + each: lambda data_dir, each=each: pytorch(data_dir, each)
       for each in PRECISIONS},
    **{'graphed ' + each: lambda data_dir, each=each: graphed(data_dir, each)
       for each in PRECISIONS if GPU},
    deterministic=deterministic,
    **{'kernels %d' % width: lambda data_dir, width=width: {
        json.dumps(kernel_share(data_dir, width)): None} for width in ENDS})


def started(name, data_dir):
  """The timing.Competitor of one of PROCESSES."""
  return timing.Competitor(name, [
      sys.executable, os.path.abspath(__file__), '--data_dir=' + data_dir,
      '--only=' + name])


def steps(data_dir):
  """Times the steps."""
  competitors = [started(name, data_dir) for name in PROCESSES
                 if 'kernels' not in name]
  seconds = timing.interleaved(competitors, RUNS)
  for each in competitors:
    each.close()
  return summary({name: 1e3 * value / STEPS_PER_RUN
                  for name, value in seconds.items() if value})


def kernels(data_dir):
  """Measures the share of kernels; on a GPU only."""
  result = {}
  for width in ENDS if GPU else ():
    asked = started('kernels %d' % width, data_dir)
    for share in filter(None, map(json.loads, asked.names)):
      result['kernel_share_width%d' % width] = share
    asked.close()
  return result


def timed(command, **environment):
  """Runs a command of the suite; returns its seconds, or None if it fails."""
  start = time.perf_counter()
  try:
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                   check=True, timeout=SECONDS,
                   env=dict(os.environ, **environment))
  except subprocess.SubprocessError as error:
    print('%s is left out: %s %s' % (command[-1], error, error.stderr or ''),
          file=sys.stderr, flush=True)
    return None
  return time.perf_counter() - start


def trained(data_dir, folder, *more, **environment):
  """Trains and rates width 64; returns (seconds, eval.json), or None."""
  seconds = timed([sys.executable, 'cifar10_train.py', '--evaluate',
                   '--data_dir=' + data_dir, '--train_dir=' + folder, *more],
                  **environment)
  if not seconds:
    return None
  with open(os.path.join(folder, 'eval.json')) as source:
    return seconds, json.load(source)


def bits(data_dir):
  """Compares trainings of the same seed."""
  with tempfile.TemporaryDirectory() as folder:
    runs = [trained(data_dir, os.path.join(folder, str(number)),
                    '--max_steps=%d' % (4 * STEPS_PER_RUN),
                    **(DETERMINISTIC if number > 1 else {}))
            for number in range(4)]
  if not all(runs):
    return {}
  digests = [rated['checkpoint_digest'] for _, rated in runs]
  return {'same_bits': [digests[0] == digests[1], digests[2] == digests[3]]}


def epochs(data_dir):
  """Times a whole training."""
  with tempfile.TemporaryDirectory() as folder:
    run = trained(data_dir, os.path.join(folder, 'run'), '--epochs=%g' % EPOCHS)
  return {'seconds_%g_epochs' % EPOCHS: run[0],
          'top1_%g_epochs' % EPOCHS: run[1]['top1']} if run else {}


def sweep(data_dir):
  """Times the sweep of one seed; on a GPU only."""
  with tempfile.TemporaryDirectory() as folder:
    seconds = GPU and timed(
        ['bash', 'run_experiments.sh'], DATA_DIR=data_dir, OUT=folder,
        PYTHON=sys.executable, GPUS='0 0 0 0 0')
  return {'seconds_sweep_one_seed': seconds} if seconds else {}


PARTS = {part.__name__: part for part in (steps, kernels, bits, epochs, sweep)}


def summary(milliseconds):
  """The docstring's figures of steps, from name -> milliseconds."""
  result = {'step_ms_width%d' % width: milliseconds['loop float32 %d' % width]
            for width in (64, 8) if 'loop float32 %d' % width in milliseconds}
  ratios = []
  for precision in PRECISIONS:
    ours_, *others = (milliseconds.get('%s %s 64' % (name, precision))
                      for name in ('loop', 'eager', 'compiled', 'graphed'))
    if ours_ and any(others):
      ratios.append(min(filter(None, others)) / ours_)
  if ratios:
    result['speedup_vs_pytorch_best'] = min(ratios)
  table = {}
  for name, value in milliseconds.items():
    competitor, precision, width = name.split()
    table.setdefault(competitor, {}).setdefault(precision, {})[width] = round(
        value, 3)
  return dict(result, milliseconds_per_step=table)


def main():
  flags = timing.parsed(__doc__, PROCESSES, PARTS)
  result = {}
  for name, part in PARTS.items():
    if flags.part in (None, name):
      found = part(os.path.abspath(flags.data_dir))
      print('%s: %s' % (name, json.dumps(found)), file=sys.stderr, flush=True)
      result.update(found)
  timing.report(dict(result, runs=RUNS, steps_per_run=STEPS_PER_RUN,
                     device=devices.gpu() or devices.processor()), flags.json)
  complete = 'loop' in result.get('milliseconds_per_step', {'loop': None})
  return 0 if result and complete else 1


if __name__ == '__main__':
  sys.exit(main())
