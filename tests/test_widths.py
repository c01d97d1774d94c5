"""results/widths.py by hand, and the files that it refuses."""
import json
import os
import subprocess
import sys

import conftest


def test_ways_to_choose_widths_are_compared_parent_by_parent(tmp_path):
  """By hand: differences 1, 2, 3 have sd 1, so half is 4.303 / 3^0.5."""
  def figures_of(top1):
    return {'top1': top1, 'top1_finetuned': 85, 'widths': [1, 1, 1, 1]}

  path, readme = tmp_path / 'widths.json', tmp_path / 'README.md'
  path.write_text(''.join(json.dumps({
      '0.5': {'losses': figures_of(80.25), 'uniform': figures_of(80.25 - above),
              'global_l1': figures_of(79)},
      'equal': {'conv1': figures_of(70 + above), 'half': figures_of(70.0)},
      'seed': above, 'date': '2026-11-29'}) + '\n' for above in (1, 2, 3)))
  readme.write_text('before\n<!-- widths -->old<!-- /widths -->\n')

  def widths(*arguments):
    return subprocess.run(
        [sys.executable, os.path.join(conftest.ROOT, 'results', 'widths.py'),
         *map(str, arguments)],
        capture_output=True, text=True, check=False)

  result = widths(path, '--readme=%s' % readme)
  assert (result.returncode, result.stderr) == (0, '')
  same = '0.00 [0.00, 0.00] (3)'
  assert [[each.strip() for each in line.split('|')[1:-1]]
          for line in result.stdout.splitlines() if '--' not in line] == [
      ['budget', 'above', 'network', 'network, fine-tuned'],
      ['0.5', 'the same share of every width', '2.00 [-0.48, 4.48] (3)', same],
      ['0.5', 'one ranking of all channels by L1', '1.25 [1.25, 1.25] (3)',
       same],
      ['equal', 'conv1 alone', '-2.00 [-4.48, 0.48] (3)', same]]
  assert readme.read_text() == (
      'before\n<!-- widths -->\n%s<!-- /widths -->\n' % result.stdout)
  lines = path.read_text().splitlines()
  for text, words in (
      ('{', 'JSONDecodeError'), ('', 'ValueError: its lines are not of the '),
      ('{"seed": 0}', 'ValueError: its lines are not of the same'), ('[1]', ''),
      ('{"seed": 0, "0.5": {"losses": {}}}', "KeyError: 'top1'"),
      (lines[0].replace(': 79,', ': NaN,'), "ValueError: top1 is 'nan'"),
      (lines[0].replace(': 79,', ': true,'), "ValueError: top1 is 'True'"),
      (lines[0].replace(': 79,', ': 1e%s,' % ('9' * 20)), 'InvalidOperation'),
      ('\n'.join([lines[0], lines[1].replace('0.5', '0.4')]), 'its lines'),
      ('\n'.join(lines + lines[:1]), 'ValueError: a seed is there twice')):
    path.write_text(text)
    result = widths(path)
    assert result.returncode == 1 and not result.stdout
    assert '%s cannot be read (' % path in result.stderr
    assert words in result.stderr
    assert result.stderr.count('\n') == 1
