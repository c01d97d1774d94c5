"""What a sweep's folder holds: finished or not, and what does not fit."""
import os
import re
import shutil
import subprocess
import sys

import cells
import cifar10
import cifar10_input
import cifar10_train
import conftest
import pytest
import stand_in
import status
import tables
import thinet_compress
import thinet_finetune
from thinet import files


def settings(out, data_dir, **others):
  return cells.Settings(**{
      **dict(out=str(out), data_dir=str(data_dir), widths=[64, 8], seeds=[0],
             schedule='published', epochs=5.0, precision='float32',
             finetune_epochs=2.0, modes=['thinet_none'],
             controls=['l1_full']), **others})


@pytest.fixture(scope='module')
def finished(data_dir, tmp_path_factory):
  """Folder of a finished sweep, as the stand-in's programs leave it."""
  out = str(tmp_path_factory.mktemp('finished') / 'out')
  seed = os.path.join(out, 'seed0', '')

  def run(program, *flags):
    stand_in.run(program, '--data_dir=' + data_dir, '--seed=0', '--evaluate',
                 *flags)

  for width in ('64', '8'):
    folder = seed + 'scratch_' + width
    run('cifar10_train.py', '--train_dir=' + folder,
        '--conv1_channels=' + width, '--schedule=published', '--epochs=5',
        '--precision=float32')
  for mode in ('thinet_none', 'l1_full'):
    folder = '%s%s_8' % (seed, mode)
    run('thinet_compress.py', '--output_dir=' + folder,
        '--checkpoint_dir=%sscratch_64' % seed, '--conv1_channels=8',
        '--criterion=' + mode.split('_')[0],
        '--reconstruction=' + mode.split('_')[1])
  for name in ('scratch_64', 'scratch_8', 'thinet_none_8'):
    run('thinet_finetune.py', '--checkpoint_dir=' + seed + name,
        '--train_dir=%s%s_finetuned' % (seed, name), '--epochs=2',
        '--precision=float32')
  return out


def make_budget(seed, data_dir):
  """Makes, beside a finished sweep, its cell of the budget 0.25."""
  def run(program, *flags):
    stand_in.run(program, '--data_dir=' + data_dir, '--seed=0', '--evaluate',
                 *flags)

  for mode in ('thinet_none', 'l1_full'):
    run('thinet_compress.py', '--output_dir=%s/%s_budget0.25' % (seed, mode),
        '--checkpoint_dir=%s/scratch_64' % seed, '--multiply_adds=0.25',
        '--parameters=0.25', '--criterion=' + mode.split('_')[0],
        '--reconstruction=' + mode.split('_')[1])
  run('cifar10_train.py', '--train_dir=%s/scratch_budget0.25' % seed,
      '--conv1_channels=16', '--conv2_channels=16', '--local3_units=96',
      '--local4_units=48', '--schedule=published', '--epochs=5',
      '--precision=float32')
  for mode in ('thinet_none', 'scratch'):
    slim = '%s/%s_budget0.25' % (seed, mode)
    run('thinet_finetune.py', '--checkpoint_dir=' + slim,
        '--train_dir=%s_finetuned' % slim, '--epochs=2', '--precision=float32')


@pytest.fixture
def sweep(finished, tmp_path):
  """A copy of the finished sweep: path of its seed's folder."""
  shutil.copytree(finished, tmp_path / 'out')
  return tmp_path / 'out' / 'seed0'


def answer(settings_):
  """('', {name: reason}) of what is not finished, or (misfit, None)."""
  cells.read.cache_clear()
  data = cells.read_data(settings_.data_dir)
  finished = cells.Finished(settings_, data)
  try:
    cells.check_settings(settings_, data)
    cells.check_parents(settings_, cells.found(settings_.out), finished)
  except cells.MisfitError as error:
    return str(error), None
  return '', {name: reason for cell in cells.plan(settings_)
              for name, reason in cells.left(cell, settings_, finished)}


def edit(path, **values):
  """Changes a JSON file as a program that writes it would."""
  found = files.read_json(str(path))
  found.update(values)
  files.write_json(str(path), found)


def edit_settings(path, **values):
  edit(path, settings=dict(files.read_json(str(path))['settings'], **values))


def test_without_a_question_status_says_which_there_are(capsys):
  for arguments in ([], ['stats'], ['cell', 'slim'], ['left', 'slim', '0']):
    assert status.main(arguments) == 2
    assert 'results/status.py plan ' in capsys.readouterr().err


def test_constants_are_those_of_the_programs():
  assert cells.LEARNING_RATES == {
      each.name: each.learning_rate for each in (
          cifar10.PUBLISHED, cifar10.FAST, thinet_finetune.SCHEDULE)}
  assert set(cifar10_train.SCHEDULES) < set(cells.LEARNING_RATES)
  assert tables.EPOCHS == {each.name: each.epochs for each in (
      cifar10.PUBLISHED, cifar10.FAST)}
  assert tables.FINETUNE_EPOCHS == thinet_finetune.SCHEDULE.epochs
  flags = thinet_compress.FLAGS
  assert (cells.NUM_IMAGES, cells.LOCATIONS) == (
      flags['num_images'].default, flags['locations_per_image'].default)


def test_parents_come_first_and_a_cell_has_all_of_a_width():
  chosen = settings('out', 'data', seeds=[3, 4], widths=[8, 64, 16])
  plan = cells.plan(chosen)
  assert [tuple(cell) for cell in plan] == [
      (stage, seed, width) for stage, widths in (
          ('scratch', (64, 8, 16)), ('slim', (8, 16)))
      for width in widths for seed in (3, 4)]
  assert [each.name for each in cells.networks(plan[-1], chosen)] == [
      'thinet_none_16', 'thinet_none_16_finetuned', 'l1_full_16']
  assert len(cells.plan(chosen._replace(modes=[], controls=[]))) == 6
  budgets = cells.plan(chosen._replace(budgets=('budget0.5', 'budget0.25')))
  assert budgets[:-4] == plan and [tuple(cell) for cell in budgets[-4:]] == [
      ('slim', seed, size) for size in ('budget0.5', 'budget0.25')
      for seed in (3, 4)]
  assert [each.name for each in cells.networks(budgets[-1], chosen)] == [
      'thinet_none_budget0.25', 'thinet_none_budget0.25_finetuned',
      'l1_full_budget0.25', 'scratch_budget0.25',
      'scratch_budget0.25_finetuned']
  # What is from scratch is fine-tuned only beside what else is.
  for modes, names in ((chosen.modes, ['scratch_64', 'scratch_64_finetuned']),
                       ([], ['scratch_64'])):
    assert [each.name for each in cells.networks(
        plan[0], chosen._replace(modes=modes))] == names


def test_a_finished_sweep_has_nothing_left(sweep, data_dir, tmp_path):
  assert answer(settings(sweep.parent, data_dir)) == ('', {})
  # Without its data, too; with other lists only what is new is left.
  assert answer(settings(sweep.parent, tmp_path / 'nowhere')) == ('', {})
  assert set(answer(settings(sweep.parent, data_dir, widths=[64, 16, 8],
                             controls=['random_none']))[1]) == {
      'scratch_16', 'scratch_16_finetuned', 'thinet_none_16',
      'thinet_none_16_finetuned',
      'random_none_16', 'random_none_8'}
  assert answer(settings(tmp_path / 'new', data_dir))[1].keys() == {
      'scratch_64', 'scratch_64_finetuned', 'scratch_8', 'scratch_8_finetuned',
      'thinet_none_8', 'thinet_none_8_finetuned', 'l1_full_8'}


def flip(path):
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


DAMAGES = {
    'emptied': lambda path: path.write_bytes(b''),
    'cut': lambda path: path.write_bytes(path.read_bytes()[:-9]),
    'one bit': flip,
    'removed': lambda path: path.unlink(),
    'a folder': lambda path: (path.unlink(), path.mkdir()),
    'a fifo': lambda path: (path.unlink(), os.mkfifo(path)),
    'edited': lambda path: path.write_text(
        path.read_text().replace('"data_digest": "', '"data_digest": "0', 1))}


@pytest.mark.parametrize('name, damage', [
    (name, damage) for name in (
        'scratch_8/run.json', 'scratch_8/eval.json', 'l1_full_8/compress.json',
        'scratch_8/model.ckpt-20.index',
        'l1_full_8/model.ckpt-0.data-00000-of-00001')
    for damage in DAMAGES if 'model' not in name or damage != 'edited'])
def test_what_is_damaged_is_not_finished(sweep, data_dir, name, damage):
  DAMAGES[damage](sweep / name)
  misfit, left = answer(settings(sweep.parent, data_dir))
  folder, _ = name.split('/')
  assert not misfit and left.keys() == (
      {folder, folder + '_finetuned'} & set(os.listdir(sweep)))


@pytest.mark.parametrize('values, reason', [
    ({'split': 'train_eval'}, 'other images or weights'),
    ({'weights': 'raw'}, 'other images or weights'),
    ({'checkpoint_digest': '0' * 64}, 'missing or another'),
    ({'global_step': 19}, 'step 19 of 20')])
def test_a_result_of_something_else_finishes_nothing(sweep, data_dir, values,
                                                     reason):
  edit(sweep / 'scratch_8' / 'eval.json', **values)
  misfit, left = answer(settings(sweep.parent, data_dir))
  assert not misfit and list(left) == ['scratch_8', 'scratch_8_finetuned']
  assert reason in left['scratch_8']


@pytest.mark.parametrize('name, child', [
    ('scratch_64', 'l1_full_8'), ('thinet_none_8', 'thinet_none_8_finetuned'),
    ('scratch_8', 'scratch_8_finetuned')])
def test_children_of_weights_that_were_made_again_do_not_fit(
    sweep, data_dir, name, child):
  if name == 'scratch_64':
    shutil.rmtree(sweep / 'scratch_64_finetuned')
  step, _ = stand_in.newest(sweep / name)
  stand_in.save(sweep / name, step, 'others')
  misfit, left = answer(settings(sweep.parent, data_dir))
  assert not misfit   # Only who is finished has children.
  assert name in left and left[child] == name + ' is not finished'
  stand_in.evaluate(sweep / name, {'data_dir': data_dir})
  assert answer(settings(sweep.parent, data_dir)) == (
      '%s was made from other weights than %s has now; move it out of '
      'OUT, or name another OUT.' % (sweep / child, sweep / name), None)
  shutil.rmtree(sweep / child)
  if name == 'scratch_64':
    shutil.rmtree(sweep / 'thinet_none_8')
  misfit, left = answer(settings(sweep.parent, data_dir))
  assert not misfit and child in left and name not in left


def test_a_cell_whose_parent_is_unfinished_says_so_first(sweep, data_dir):
  (sweep / 'scratch_64' / 'eval.json').unlink()
  cells.read.cache_clear()
  chosen = settings(sweep.parent, data_dir)
  finished = cells.Finished(chosen, cells.read_data(data_dir))
  assert [name for name, _ in cells.left(cells.Cell('slim', 0, 8), chosen,
                                         finished)] == [
      'scratch_64', 'thinet_none_8', 'thinet_none_8_finetuned', 'l1_full_8']


@pytest.mark.parametrize('changed, folder, sentence', [
    (dict(epochs=6.0), 'scratch_64', 'EPOCHS=5, not 6'),
    (dict(epochs=2.5), 'scratch_64', 'EPOCHS=5, not 2.5'),
    (dict(schedule='fast', epochs=50.0), 'scratch_64',
     'SCHEDULE=published, not fast'),
    (dict(precision='bfloat16'), 'scratch_64',
     'PRECISION=float32, not bfloat16'),
    (dict(finetune_epochs=3.0), 'scratch_64_finetuned',
     'FINETUNE_EPOCHS=2, not 3')])
@pytest.mark.parametrize('lists', [
    {}, dict(widths=[64], modes=[], controls=[], seeds=[1])])
def test_other_settings_do_not_fit(sweep, data_dir, changed, folder, sentence,
                                   lists):
  """Also in networks that this sweep would not make: the table mixes them."""
  assert answer(settings(sweep.parent, data_dir, **changed, **lists)) == (
      '%s was made with %s; go back to that, move the folder out of OUT, or '
      'name another OUT.' % (sweep / folder, sentence), None)


@pytest.mark.parametrize('left', ['scratch_8', 'thinet_none_8',
                                  'thinet_none_8_finetuned'])
def test_one_unfinished_network_does_not_fit_as_well(sweep, data_dir, left):
  """A training has its run.json from its start; the parent's settings count."""
  for folder in os.listdir(sweep):
    if folder != left:
      shutil.rmtree(sweep / folder)
  (sweep / left / 'eval.json').unlink()
  sentence, _ = answer(settings(sweep.parent, data_dir, precision='bfloat16'))
  assert sentence.startswith('%s was made with PRECISION=float32' % (
      sweep / left))
  misfit, unfinished = answer(settings(sweep.parent, data_dir))
  assert not misfit and left in unfinished
  if left == 'thinet_none_8':   # It has no EPOCHS, but its parent's steps.
    sentence, _ = answer(settings(sweep.parent, data_dir, epochs=6.0))
    assert 'parent_step=20, not 24' in sentence


@pytest.mark.parametrize('change, name, sentence', [
    ({'seed': 1}, 'scratch_8', 'seed=1, not 0'),
    ({'conv1_channels': 16}, 'scratch_8', 'conv1_channels=16, not 8'),
    ({'batch_size': 64}, 'scratch_8', 'batch_size=64, not 128'),
    ({'learning_rate': 0.05}, 'scratch_8', 'learning_rate=0.05, not 0.1'),
    ({'random_streams': 1}, 'scratch_8', 'random_streams=1, not 2'),
    ({'random_streams': None}, 'scratch_8', 'random_streams=None, not 2'),
    ({'data_digest': 'a' * 64}, 'scratch_8', 'other training images'),
    ({'fine_tuned': 1}, 'thinet_none_8_finetuned', 'fine_tuned=1, not True'),
    ({'criterion': 'l1'}, 'thinet_none_8_finetuned', 'criterion=l1, not thi'),
    ({'parent': 3}, 'thinet_none_8_finetuned', 'random_streams=None'),
    ({'criterion': 'l1'}, 'thinet_none_8', 'criterion=l1, not thinet'),
    ({'conv2_channels': 32}, 'scratch_8', 'conv2_channels=32, not 64'),
    ({'local4_units': 9}, 'l1_full_8', 'local4_units=9, not 192'),
    ({'reconstruction': 'full'}, 'thinet_none_8', 'reconstruction=full, not '),
    ({'num_images': 400}, 'thinet_none_8', 'num_images=400, not 500'),
    ({'locations_per_image': 144}, 'thinet_none_8',
     'locations_per_image=144, not 10')])
def test_networks_made_by_hand_in_another_way_do_not_fit(
    sweep, data_dir, change, name, sentence):
  path = sweep / name / ('run.json' if (sweep / name / 'run.json').exists()
                         else 'compress.json')
  edit_settings(path, **change)
  misfit, _ = answer(settings(sweep.parent, data_dir))
  assert misfit.startswith('%s was made ' % (sweep / name)), misfit
  assert sentence in misfit and misfit.endswith('name another OUT.')


def test_what_does_not_say_its_settings_is_made_again(sweep, data_dir):
  path = str(sweep / 'thinet_none_8' / 'compress.json')
  report = files.read_json(path)
  files.write_json(path, {**report.pop('settings'), **report})
  misfit, left = answer(settings(sweep.parent, data_dir))
  assert not misfit and 'thinet_none_8' in left


def test_a_training_from_scratch_has_the_widths_of_its_budget(sweep, data_dir):
  make_budget(sweep, data_dir)
  chosen = settings(sweep.parent, data_dir, budgets=('budget0.25',))
  assert answer(chosen) == ('', {})
  scratch, last = (sweep / name for name in ('scratch_budget0.25',
                                             'l1_full_budget0.25'))
  (scratch / 'eval.json').unlink()
  assert answer(chosen)[1].keys() == {'scratch_budget0.25',
                                      'scratch_budget0.25_finetuned'}
  # One compression was made again and chose other widths.
  again = sweep / 'thinet_none_budget0.25' / 'compress.json'
  edit(again, local3_units=97)
  edit_settings(again, local3_units=97)
  for lists in ({}, dict(budgets=(), modes=[], controls=[])):
    assert answer(chosen._replace(**lists)) == (
        '%s was trained with local3_units=96, but the compressions of its '
        'budget have 97; move it out of OUT, or name another OUT.' % scratch,
        None)
  shutil.rmtree(scratch)
  shutil.rmtree('%s_finetuned' % scratch)
  assert answer(chosen)[0].startswith(
      '%s was made with local3_units=96, not 97; ' % last)
  for folder in sweep.glob('thinet_none_budget*'):
    shutil.rmtree(folder)
  # Nor does one whose widths were given by hand.
  edit_settings(last / 'compress.json', parameters_share=None)
  assert 'parameters_share=None, not 0.25; ' in answer(chosen)[0]


def test_a_training_of_another_length_does_not_fit(sweep, data_dir):
  """--max_steps, which the epochs do not tell."""
  edit(sweep / 'scratch_8' / 'run.json', last_step=10)
  assert 'last_step=10, not 20' in answer(settings(sweep.parent, data_dir))[0]


def test_replaced_training_images_do_not_fit(sweep, data_dir, tmp_path):
  shutil.copytree(data_dir, tmp_path / 'data')
  assert answer(settings(sweep.parent, tmp_path / 'data')) == ('', {})
  flip(tmp_path / 'data' / cifar10_input.FOLDER / 'data_batch_3.bin')
  misfit, _ = answer(settings(sweep.parent, tmp_path / 'data'))
  assert 'made from other training images' in misfit
  assert 'bring those back' in misfit


def test_on_replaced_test_images_all_is_rated_again(sweep, data_dir, tmp_path):
  shutil.copytree(data_dir, tmp_path / 'data')
  flip(tmp_path / 'data' / cifar10_input.FOLDER / 'test_batch.bin')
  misfit, left = answer(settings(sweep.parent, tmp_path / 'data'))
  assert not misfit and set(left.values()) == {
      'it was rated on other test images'}
  assert left.keys() == set(os.listdir(sweep))


def test_folders_of_other_names_are_not_looked_at(sweep, data_dir):
  for name in ('scratch_08', 'l2_full_8', 'notes', 'scratch_8.old',
               'scratch_8_tuned', 'scratch_8\n', 'scratch_budget0.5.old'):
    shutil.copytree(sweep / 'scratch_64', sweep / name)
  shutil.copytree(sweep / 'thinet_none_8', sweep / 'l1_full_budget0.250')
  shutil.copytree(sweep, sweep.parent / 'seed01')
  shutil.copytree(sweep, sweep.parent / 'seed1 copy')
  (sweep.parent / 'seed7').write_text('')
  assert answer(settings(sweep.parent, data_dir)) == ('', {})
  shutil.copytree(sweep / 'scratch_64', sweep.parent / 'seed1' / 'scratch_64')
  assert 'seed=0, not 1' in answer(settings(sweep.parent, data_dir))[0]


def test_an_out_that_is_no_folder_is_one_sentence(tmp_path, data_dir):
  (tmp_path / 'file').write_text('')
  assert answer(settings(tmp_path / 'file', data_dir)) == (
      'OUT=%s is no folder; name another.' % (tmp_path / 'file'), None)


def test_as_a_program_without_tensorflow(sweep, data_dir):
  (sweep / 'l1_full_8' / 'eval.json').write_text('{}')
  environment = dict(
      os.environ, OUT=str(sweep.parent), DATA_DIR=data_dir, WIDTHS='64 8',
      SEEDS='0', SCHEDULE='published', EPOCHS='5', PRECISION='float32',
      FINETUNE_EPOCHS='2', MODES='thinet_none', CONTROLS='l1_full', JOBS='1',
      GPUS='', BUDGETS='')
  program = os.path.join(conftest.ROOT, 'results', 'status.py')

  def run(*arguments, **changes):
    result = subprocess.run([sys.executable, '-X', 'importtime', program,
                             *arguments], env=dict(environment, **changes),
                            capture_output=True, text=True)
    assert ' thinet.files' in result.stderr
    assert not re.search(r'\| +tensorflow\b', result.stderr)
    return result.returncode, result.stdout, result.stderr.splitlines()[-1]

  assert run('left')[:2] == (0, 'slim 0 8\n')
  assert run('left', 'slim', '0', '8')[:2] == (
      0, 'l1_full_8 eval.json is missing or damaged\n')
  assert run('left', 'scratch', '0', '8')[:2] == (0, '\n')
  code, output, error = run('plan', EPOCHS='7')
  assert (code, output) == (2, '')
  assert error.startswith('run_experiments.sh: %s was made with EPOCHS=5' % (
      sweep / 'scratch_64'))
