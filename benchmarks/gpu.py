"""Times trainings and a sweep on a GPU, beside PyTorch.

  python benchmarks/gpu.py --data_dir=data [--json]

On a GPU box (`pip install torch`, or PyTorch is left out); without --json the
same in lines:

1. a training step, batches of 128, at widths 64 to 8, in float32, TF32 and
   bfloat16: in runs of 100 steps, ours as one compiled operation (`loop`) and
   operation by operation (`plain`), and the same network and update in PyTorch,
   eager and compiled (`torch.compile` with CUDA graphs). All make their batches
   on the GPU from the stored bytes, except `plain`. Medians of 40 runs after 5,
   in turn, each precision of each library in a process of its own (timing.py);
2. the loop in float32 with XLA_FLAGS=--xla_gpu_deterministic_ops=true, beside
   them;
3. the share of a loop's time in which kernels run, at widths 64 and 8;
4. whether two trainings of 400 steps give the same bits, without and with that
   flag;
5. 128 epochs at width 64 with --evaluate, from the command to its end;
6. run_experiments.sh with one seed, as it is by default.

--json prints one object: device, date, machine, runs and steps_per_run;
step_ms_width64 and step_ms_width8 (the loop in float32);
speedup_vs_pytorch_best (width 64: the faster of both PyTorchs over the loop, in
the precision where this is least); milliseconds_per_step (by competitor,
precision and width); kernel_share_width64 and _width8;
same_bits (without the flag, with it); seconds_128_epochs and top1_128_epochs;
seconds_sweep_one_seed. What was left out has no key.

Without a GPU, a small form shows that it works: width 8, float32, runs of 3
steps of 8 images, the loop compiled for the processor; a hundredth of an epoch,
no kernels, no sweep.
"""
import datetime
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
PRECISIONS = ['float32', 'tf32', 'bfloat16'] if GPU else ['float32']
DETERMINISTIC = {'XLA_FLAGS': '--xla_gpu_deterministic_ops=true'}
STEPS_PER_RUN = 100 if GPU else 3
EPOCHS = 128 if GPU else 0.01


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
    runs['plain %s %d' % (precision, width)] = plain
    runs['loop %s %d' % (precision, width)] = loop
  return runs


def pytorch(data_dir, precision):
  """The same batches, network and update in PyTorch."""
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

  def make(width, compiled):
    network = pytorch_network.Network(width).to(
        device, memory_format=torch.channels_last)
    averages = [p.detach().clone() for p in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), 0.1)

    def loss_of(indices):
      images = pytorch_network.distorted(all_images, indices)
      with torch.autocast(device.type, torch.bfloat16,
                          enabled=precision == 'bfloat16'):
        logits = network(images)
      return torch.nn.functional.cross_entropy(
          logits.float(), all_labels[indices]) + network.decay()

    if compiled:
      loss_of = torch.compile(loss_of, mode='reduce-overhead')

    def run():
      order = torch.randperm(len(all_labels), device=device)
      for step in range(STEPS_PER_RUN):
        optimizer.zero_grad()
        loss_of(order[step * BATCH_SIZE:(step + 1) * BATCH_SIZE]).backward()
        optimizer.step()
        with torch.no_grad():
          torch._foreach_lerp_(averages, list(network.parameters()), 1e-4)
      if GPU:
        torch.cuda.synchronize()
    return run

  return {'%s %s %d' % (name, precision, width): make(width, name == 'compiled')
          for width in WIDTHS for name in ('eager', 'compiled')}


def deterministic(data_dir):
  """The loop with operations that give the same bits each time."""
  os.environ.update(DETERMINISTIC)   # Before TensorFlow is imported.
  return {name.replace('float32', 'deterministic'): run
          for name, run in ours(data_dir, 'float32').items() if 'loop' in name}


def kernel_share(data_dir, width):
  """Share of a loop's time in which kernels run on the GPU."""
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
    deterministic=deterministic,
    **{'kernels %d' % width: lambda data_dir, width=width: {
        json.dumps(kernel_share(data_dir, width)): None} for width in (64, 8)})


def steps(data_dir):
  """Name -> milliseconds a step."""
  competitors = [timing.Competitor(name, [
      sys.executable, os.path.abspath(__file__), '--data_dir=' + data_dir,
      '--only=' + name]) for name in PROCESSES if 'kernels' not in name]
  seconds = timing.interleaved(competitors)
  for each in competitors:
    each.close()
  return {name: 1e3 * value / STEPS_PER_RUN for name, value in seconds.items()
          if value}


def timed(command, **environment):
  """Runs a command of the suite; returns its seconds, or None if it fails."""
  start = time.perf_counter()
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True,
                        env=dict(os.environ, **environment))
  if done.returncode:
    print('%s is left out: %s' % (command[-1], done.stderr.strip()),
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


def whole_runs(data_dir):
  """Times 128 epochs and, on a GPU, the sweep of one seed; compares runs."""
  result, data_dir = {}, os.path.abspath(data_dir)
  with tempfile.TemporaryDirectory() as folder:
    def short(name, **environment):
      run = trained(data_dir, os.path.join(folder, name),
                    '--max_steps=%d' % (4 * STEPS_PER_RUN), **environment)
      return run and run[1]['checkpoint_digest']
    digests = [short(str(number), **(DETERMINISTIC if number > 1 else {}))
               for number in range(4)]
    if all(digests):
      result['same_bits'] = [digests[0] == digests[1], digests[2] == digests[3]]
    run = trained(data_dir, os.path.join(folder, 'long'), '--epochs=%g' %
                  EPOCHS)
    if run:
      result['seconds_%g_epochs' % EPOCHS] = run[0]
      result['top1_%g_epochs' % EPOCHS] = run[1]['top1']
    if GPU:
      seconds = timed(['bash', 'run_experiments.sh'], DATA_DIR=data_dir,
                      OUT=os.path.join(folder, 'sweep'), PYTHON=sys.executable)
      if seconds:
        result['seconds_sweep_one_seed'] = seconds
  return result


def summary(milliseconds):
  """The docstring's figures of steps, from name -> milliseconds."""
  result = {'step_ms_width%d' % width: milliseconds['loop float32 %d' % width]
            for width in (64, 8) if 'loop float32 %d' % width in milliseconds}
  ratios = []
  for precision in PRECISIONS:
    ours_, *others = (milliseconds.get('%s %s 64' % (name, precision))
                      for name in ('loop', 'eager', 'compiled'))
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
  flags = timing.parsed(__doc__, PROCESSES)
  result = summary(steps(flags.data_dir))
  for name in filter(lambda name: GPU and 'kernels' in name, PROCESSES):
    asked = timing.Competitor(name, [
        sys.executable, os.path.abspath(__file__), '--only=' + name,
        '--data_dir=' + flags.data_dir])
    for share in filter(None, map(json.loads, asked.names)):
      result['kernel_share_width' + name.split()[1]] = share
    asked.close()
  result.update(whole_runs(flags.data_dir))
  timing.report(dict(result, runs=timing.STEPS, steps_per_run=STEPS_PER_RUN,
                     device=devices.gpu() or devices.processor(),
                     date=datetime.date.today().isoformat(),
                     machine=timing.machine()), flags.json)
  return 0 if 'loop' in result['milliseconds_per_step'] else 1


if __name__ == '__main__':
  sys.exit(main())
