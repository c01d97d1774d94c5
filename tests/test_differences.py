"""results/differences.py against scipy and by hand."""
import decimal
import os
import subprocess
import sys

import conftest
import differences
import numpy as np
import reading
import report
import scipy.stats
import tables


def of(seed, width, criterion, reconstruction, fine_tuned, top1, **more):
  return reading.network(dict(
      dict.fromkeys(reading.COLUMNS, ''), seed=str(seed), top1=str(top1),
      top5='100', conv1_channels=str(width), criterion=criterion,
      fine_tuned=fine_tuned, reconstruction=reconstruction, **more))


def texts(table):
  """The cells of a Markdown table's lines, without the rule below the first."""
  first, _, *others = table.splitlines()
  return [[cell.strip() for cell in line[1:-1].split('|')]
          for line in [first] + others]


def bracketed(mean, ends):
  return '%.2f [%.2f, %.2f]' % (mean, ends.low, ends.high)


def test_losses_within_parents_against_scipy():
  parents, slim = [85.39, 84.93, 84.89, 85.5], [79.26, 79.01, 78.32, 80.7]
  networks = [of(seed, 64, 'scratch', '', 'no', top1)
              for seed, top1 in enumerate(parents)]
  networks += [of(seed, 8, 'least_squares', 'full', 'no', top1)
               for seed, top1 in enumerate(slim)][::-1]
  networks += [of(seed, 8, 'least_squares', 'network', 'no', 80)
               for seed in (1, 3, 9)]   # Seed 9 has no parent here.
  lost = np.array(parents) - slim
  expected = bracketed(lost.mean(), scipy.stats.ttest_1samp(
      lost, 0).confidence_interval())
  assert texts(differences.lost(networks))[1:] == [
      ['8', 'full', expected + ' (4)', '6.13, 5.92, 6.57, 4.80'],
      ['8', 'network', '5.22 (2)', '4.93, 5.50']]
  # Without the parents nothing is lost, not even to a wider network.
  networks = [dict(each, conv1_channels=16) if each['conv1_channels'] == 64
              else each for each in networks]
  assert len(texts(differences.lost(networks))) == 1


def test_losses_to_fine_tuned_parents_by_hand():
  networks = [of(0, 64, 'scratch', '', tuned, 85 + (tuned == 'yes'))
              for tuned in ('no', 'yes')]
  networks += [of(0, 8, 'least_squares', 'network', tuned, 80)
               for tuned in ('no', 'yes')]
  assert [line[:3] for line in texts(differences.lost(networks))[1:]] == [
      ['8', 'network', '5.00 (1)'], ['8', 'network, fine-tuned', '5.00 (1)'],
      ['8', 'network and parent, fine-tuned', '6.00 (1)']]


def test_differences_from_scratch_against_scipy():
  """Paired where one side has all seeds of the other; else unpaired."""
  theirs = [84.84, 85.39, 84.99, 85.01]
  networks = [of(seed, 48, 'scratch', '', 'no', top1)
              for seed, top1 in enumerate(theirs)]
  ours = {('thinet', 'none'): {6: 85.79, 7: 85.76},
          ('thinet', 'scale'): {1: 85.0, 2: 85.1, 3: 85.35},
          ('least_squares', 'full'): {0: 85},
          ('least_squares', 'network'): {3: 85.2, 4: 85.9}}
  networks += [of(seed, 48, *mode, 'yes', top1)
               for mode, tops in ours.items() for seed, top1 in tops.items()]
  first, second, _, last = ([*tops.values()] for tops in ours.values())
  apart = [bracketed(np.mean(tops) - np.mean(theirs), scipy.stats.ttest_ind(
      tops, theirs).confidence_interval()) + ' (2:4)' for tops in (first, last)]
  above = np.array(second) - theirs[1:]
  within = bracketed(above.mean(), scipy.stats.ttest_1samp(
      above, 0).confidence_interval()) + ' (3)'
  assert texts(differences.differences(networks)['gained']) == [
      ['conv1', 'none, fine-tuned', 'scale, fine-tuned', 'full, fine-tuned',
       'network, fine-tuned'],
      ['48', apart[0], within, '0.16 (1)', apart[1]]]


def test_questions_after_fine_tuning_by_hand():
  """The sd of 1, 2, 3 is 1, of which 4.303 / 3^0.5 = 2.48 is half."""
  networks = []
  for seed, above in enumerate((1, 2, 3)):
    for width in (16, 8):
      networks += [of(seed, width, 'scratch', '', 'no', 80 - (width == 8)),
                   of(seed, width, 'scratch', '', 'yes', 81),
                   of(seed, width, 'least_squares', 'none', 'yes', 80)]
      for number, (criterion, how) in enumerate([
          ('thinet', 'none'), ('thinet', 'scale'), ('least_squares', 'full'),
          ('least_squares', 'network')]):
        if (seed, how, width) != (2, 'scale', 8):
          networks.append(of(seed, width, criterion, how, 'yes',
                             80 + above + number * above))
  found = differences.differences(networks)
  assert texts(found['rebuilt']) == [
      ['conv1', 'scale', 'full', 'network'],
      ['16', '2.00 [-0.48, 4.48] (3)', '6.00 [-1.45, 13.45] (3)',
       '8.00 [-1.94, 17.94] (3)'],
      ['8', '1.50 (2)', '6.00 [-1.45, 13.45] (3)', '8.00 [-1.94, 17.94] (3)'],
      ['mean', '1.50 (2)', '6.00 [-1.45, 13.45] (3)',
       '8.00 [-1.94, 17.94] (3)']]
  # The four are 1 to 4 times 1, 2 and 3 points above 80: 2.5, 5 and 7.5.
  same, threes = '{0} [{0}, {0}] (3)'.format, '6.00 [-1.45, 13.45] (3)'
  assert texts(found['fine-tuned']) == [
      ['conv1', 'above scratch', 'above scratch, tuned',
       'gained by scratch', 'network above none'],
      ['16', '5.00 [-1.21, 11.21] (3)', '4.00 [-2.21, 10.21] (3)', same('1.00'),
       threes],
      ['8', '4.75 (2)', '2.75 (2)', same('2.00'), threes],
      ['mean', '4.25 (2)', '2.75 (2)', same('1.50'), threes]]


def test_choices_of_channels_by_hand():
  networks = [of(seed, 8, criterion, how, 'no', 80 + seed * more)
              for seed in range(3) for criterion, how, more in (
                  ('least_squares', 'full', 1), ('thinet', 'full', 2),
                  ('least_squares', 'network', 0), ('l1', 'network', -1))]
  found = differences.differences(networks)
  assert texts(found['choices']) == [
      ['conv1', 'thinet, full', 'l1, network'],
      ['8', '-1.00 [-3.48, 1.48] (3)', '1.00 [-1.48, 3.48] (3)']]
  networks = [of(0, 8, criterion, how, tuned, top1)
              for criterion, how, tuned, top1 in (
                  ('thinet_kept', 'scale', 'no', 24),
                  ('thinet', 'scale', 'no', 23),
                  ('least_squares', 'none', 'yes', 81),
                  ('random', 'none', 'yes', 80))]
  found = differences.differences(networks)
  assert texts(found['choices scale'])[1] == ['8', '1.00 (1)']
  assert texts(found['choices none, fine-tuned']) == [
      ['conv1', 'random'], ['8', '1.00 (1)']]


def test_trainings_of_other_epochs_have_tables_of_their_own(tmp_path):
  """They are in no other one; but those of a sweep with its own epochs are."""
  networks = []
  for seed in range(3):
    def add(epochs, finetune_epochs, *mode, to, seed=seed):
      to.append(of(seed, 8, *mode, epochs=epochs, schedule='published',
                   finetune_epochs=finetune_epochs))

    for how, tops in (('none', (20, 76, 81)), ('network', (70, 79 + seed, 82))):
      for number, fine_tuned, top1 in zip(
          ('', '1.0', '20'), ('no', 'yes', 'yes'), tops):
        add('128', number, 'least_squares', how, fine_tuned, top1, to=networks)
    add('128', '', 'scratch', '', 'no', 80, to=networks)
    add('480', '', 'scratch', '', 'no', 80, to=networks)
    add('480', '20', 'scratch', '', 'yes', 83 + seed, to=networks)
    add('5', '', 'least_squares', 'network', 'no', 60, to=networks)
  main = tables.usual(networks)
  assert {(each['epochs'], each['finetune_epochs']) for each in main} == {
      (128, ''), (128, 20)} and len(main) == 15
  # Without the usual ones, those of which there are most.
  others = [each for each in networks if each['epochs'] != 128]
  others += [of(9, 8, 'scratch', '', 'no', 80, epochs='480')]
  assert tables.usual(others) == [each for each in others
                                  if each['epochs'] == 480]
  equal = differences.equal(networks)
  assert texts(equal) == [['conv1', 'network, fine-tuned'],
                          ['8', '-2.00 [-4.48, 0.48] (3)']]
  # The report's tables are without them.
  path = tmp_path / 'networks.csv'
  path.write_bytes(report.as_csv(reading.COLUMNS, networks))
  (tmp_path / 'README.md').write_text(
      '<!-- equal --><!-- /equal -->')
  result = subprocess.run(
      [sys.executable, os.path.join(conftest.ROOT, 'results', 'report.py'),
       str(path), '--differences', '--readme=%s' % (tmp_path / 'README.md')],
      capture_output=True, text=True, check=True)
  assert '15 of 30 networks are not in this table' in result.stderr
  assert equal in result.stdout
  assert (tmp_path / 'README.md').read_text() == (
      '<!-- equal -->\n%s\n<!-- /equal -->' % equal)


def test_quantiles_are_student_s():
  assert [str(value) for value in differences.T] == [
      '%.3f' % scipy.stats.t.ppf(0.975, degrees)
      for degrees in range(1, len(differences.T) + 1)]
  assert differences.paired([
      decimal.Decimal(value % 2) for value in range(100)]).startswith(
          '0.50 [0.40, 0.60]')
