"""The table against figures by hand; broken files are named and left out."""
import csv
import json
import os
import subprocess
import sys

import conftest
import figures
import numpy as np
import pytest
import report


def write(folder, **values):
  os.makedirs(folder)
  json.dump(dict({'split': 'test', 'weights': 'averaged'}, **values),
            open(folder / 'eval.json', 'w'))


@pytest.fixture
def sweep(tmp_path):
  for seed, top1 in (('seed0', 85.0), ('seed1', 86.0), ('seed2', 84.0)):
    write(tmp_path / seed / 'a', conv1_channels=64, top1=top1, top5=99.0)
  write(tmp_path / 'seed0' / 'b', conv1_channels=8, top1=13.5, top5=60.25,
        criterion='thinet', reconstruction='none', fine_tuned=False)
  write(tmp_path / 'seed0' / 'c', conv1_channels=8, top1=75.0, top5=98.0,
        criterion='thinet', reconstruction='none', fine_tuned=True)
  write(tmp_path / 'seed0' / 'd', conv1_channels=8, top1=1.0, top5=1.0,
        split='train_eval')
  write(tmp_path / 'seed0' / 'e', conv1_channels=8, top1=2.0, top5=2.0,
        criterion='thinet', reconstruction='none', fine_tuned=True,
        distilled=True)
  return tmp_path


def run(*arguments):
  return subprocess.run(
      [sys.executable, os.path.join(conftest.ROOT, 'results', 'report.py')] +
      [str(argument) for argument in arguments], capture_output=True, text=True)


def test_table_by_hand(sweep):
  published = sweep / 'published.csv'
  published.write_text('conv1_channels,reconstruction,fine_tuned,top1,top5\n'
                       '64,scratch,,85.413,99.209\n8,none,no,16.169,74.525\n')
  result = run(sweep, '--published=%s' % published)
  assert result.returncode == 0 and result.stderr == ''
  assert result.stdout.splitlines() == [
      '| conv1 | scratch | thinet, none | thinet, none, fine-tuned |',
      '| ---: | ---: | ---: | ---: |',
      '| 64 | 85.00 ± 1.00 / 99.00 ± 0.00 (3)<br>*85.41 / 99.21* |  |  |',
      '| 8 |  | 13.50 / 60.25<br>*16.17 / 74.53* | 75.00 / 98.00 |']
  rows = list(csv.DictReader(open(sweep / 'table.csv')))
  assert [row['fine_tuned'] for row in rows] == ['no', 'no', 'yes']
  assert (rows[0]['criterion'], rows[0]['reconstruction'], rows[0]['n'],
          rows[0]['top1_mean'], rows[0]['top1_sd'], rows[0]['top5_sd'],
          rows[0]['published_top1']) == ('scratch', '', '3', '85.0', '1.0',
                                         '0.0', '85.413')
  assert rows[2]['published_top1'] == rows[2]['top1_sd'] == ''


@pytest.mark.parametrize('content', ['', '{"conv1_chan', '[]', '3', '{}',
                                     '{"split": "test"}'])
def test_broken_files_are_named_and_left_out(sweep, content):
  (sweep / 'seed1' / 'a' / 'eval.json').write_text(content)
  result = run(sweep)
  assert result.returncode == 0
  assert '85.00' not in result.stdout and '84.50 ± 0.71' in result.stdout
  assert str(sweep / 'seed1' / 'a' / 'eval.json') in result.stderr
  assert 'Traceback' not in result.stderr


def test_nothing_to_report(tmp_path):
  for folder in (tmp_path, tmp_path / 'none'):
    result = run(folder)
    assert result.returncode == 1 and str(folder) in result.stderr
    assert 'Traceback' not in result.stderr


def test_published_figures_are_complete():
  published = report.read_published(
      os.path.join(conftest.ROOT, 'results', 'published.csv'))
  assert len(published) == 6 + 5 * 4
  assert published[8, 'thinet', 'scale', 'yes'] == (72.785, 97.696)


def test_readme_section_is_replaced_in_place(sweep):
  readme = sweep / 'README.md'
  readme.write_text('before\n<!-- table -->\nold\n<!-- /table -->\nafter\n')
  for _ in range(2):
    result = run(sweep, '--readme=%s' % readme)
    assert result.returncode == 0
    assert readme.read_text() == ('before\n<!-- table -->\n%s<!-- /table -->\n'
                                  'after\n' % result.stdout)
  readme.write_text('<!-- /table --> <!-- table -->')
  result = run(sweep, '--readme=%s' % readme)
  assert result.returncode == 1 and 'no section between' in result.stderr


@pytest.mark.parametrize('sweep, readme', [
    ('', 'README.md'), ('fast', 'results/README.md')])
def test_a_readmes_table_is_that_of_the_committed_results(sweep, readme):
  """Recomputed from every eval.json of the sweep."""
  results = os.path.join(conftest.ROOT, 'results')
  folder = os.path.join(results, sweep)
  cells = [report.read_cell(os.path.join(where, 'eval.json'))
           for seed in os.listdir(folder) if seed.startswith('seed')
           for where, _, names in os.walk(os.path.join(folder, seed))
           if 'eval.json' in names]
  table = report.rows(cells, report.read_published(
      os.path.join(results, 'published.csv')))
  text = open(os.path.join(conftest.ROOT, readme)).read()
  assert report.replace_section(text, report.markdown(table)) == text
  rows = list(csv.DictReader(open(os.path.join(folder, 'table.csv'))))
  assert [{name: str(value) for name, value in row.items()} for row in table
          ] == [{name: value for name, value in row.items() if value != ''
                 or name == 'reconstruction'} for row in rows]


def row(width, criterion, reconstruction, fine_tuned, top1, **more):
  return dict(conv1_channels=width, criterion=criterion, top1_mean=top1,
              reconstruction=reconstruction, fine_tuned=fine_tuned, **more)


def test_figures_show_what_the_table_says(tmp_path, monkeypatch):
  """What is drawn, asked of matplotlib itself."""
  table = [row(64, 'scratch', '', 'no', 85.0, top1_sd=0.5),
           row(8, 'scratch', '', 'no', 80.0, published_top1=81.0),
           row(8, 'thinet', 'none', 'no', 13.0),
           row(8, 'thinet', 'none', 'yes', 82.0)]
  drawn = []
  monkeypatch.setattr(figures.pyplot, 'close', drawn.append)
  figures.draw(str(tmp_path / 'a.png'), table, {64: 30.0, 8: 4.0}, 'ms')
  panels = drawn[0].axes
  for axes, expected in zip(panels, [
      {'scratch': [(4, 80), (30, 85)], 'thinet, none': [(4, 13)]},
      {'scratch': [(4, 80), (30, 85)], 'thinet, none': [(4, 82)]}]):
    assert axes.get_xlabel() == 'ms'
    lines = [container.lines[0] for container in axes.containers]
    found = {text.get_text(): [tuple(point) for point in line.get_xydata()]
             for line in lines for text in axes.texts
             if text.get_color() == line.get_color()}
    assert found == expected
    rings = [line for line in axes.lines if line.get_fillstyle() == 'none']
    assert [point.tolist() for line in rings
            for point in line.get_xydata()] == [[4, 81]]
  assert (tmp_path / 'a.png').read_bytes()[:4] == b'\x89PNG'


@pytest.mark.parametrize('top1', [20.0, 80.0])
def test_labels_of_equal_curves_do_not_touch(tmp_path, monkeypatch, top1):
  """Nor do they leave the axes, at the bottom or at the top."""
  table = [row(8, name, 'full', 'no', top1) for name in 'abcdef']
  table += [row(8, 'g', 'full', 'no', 100.0 - top1)]
  drawn = []
  monkeypatch.setattr(figures.pyplot, 'close', drawn.append)
  figures.draw(str(tmp_path / 'a.png'), table, {8: 4.0}, 'ms')
  axes = drawn[0].axes[0]
  low, high = axes.get_ylim()
  heights = sorted(text.xyann[1] for text in axes.texts)
  assert np.diff(heights).min() > 0.05 * (high - low)
  assert low <= heights[0] and heights[-1] <= high


def test_a_cost_is_the_mean_of_a_widths_evaluations(sweep, monkeypatch):
  for name, width, latency in (('e', 64, 30.0), ('f', 64, 20.0), ('g', 8, 5.0)):
    write(sweep / 'seed9' / name, conv1_channels=width, top1=80.0, top5=99.0,
          latency_ms=latency, multiply_adds=width * 10 ** 6)
  drawn = {}
  monkeypatch.setattr(figures, 'draw', lambda path, table, cost, name:
                      drawn.update({os.path.basename(path): cost}))
  monkeypatch.setattr(sys, 'argv', ['report.py', str(sweep)])
  report.main()
  assert drawn == {'top1_by_conv1_channels.png': {64: 64, 8: 8},
                   'top1_by_latency_ms.png': {64: 25.0, 8: 5.0},
                   'top1_by_multiply_adds.png': {64: 64.0, 8: 8.0}}
