"""What results/figures.py draws, by what matplotlib itself has of it."""
import csv
import decimal
import json
import os
import shutil
import subprocess

import figures
import made_up
import numpy as np
import pytest
import report
from made_up import RESULTS, run, started


def row(width, criterion, reconstruction, fine_tuned, top1, n=1, **more):
  return dict(conv1_channels=width, criterion=criterion, top1_mean=top1, n=n,
              reconstruction=reconstruction, fine_tuned=fine_tuned, **more)


def test_figures_show_what_the_table_says(monkeypatch):
  """What matplotlib itself says was drawn."""
  table = [row(64, 'scratch', '', 'no', decimal.Decimal(85), 3,
               top1_sd=decimal.Decimal('0.5')),
           row(8, 'scratch', '', 'no', 80.0, 2, top1_sd=0.7,
               published_top1=decimal.Decimal(81)),
           row(8, 'thinet', 'none', 'no', 13.0),
           row(8, 'thinet', 'none', 'yes', 82.0),
           row(8, 'scratch', '', 'yes', 83.0)]
  drawn = []
  monkeypatch.setattr(figures.pyplot, 'close', drawn.append)
  picture = figures.draw(table, {64: 30.0, 8: 4.0}, 'ms')
  panels = drawn[0].axes
  for axes, expected in zip(panels, [
      {'scratch': ('-', [(4, 80), (30, 85)]), 'thinet, none': ('-', [(4, 13)])},
      {'scratch': ('-', [(4, 80), (30, 85)]), 'thinet, none': ('-', [(4, 82)]),
       'scratch, fine-tuned': ('--', [(4, 83)])}]):
    assert axes.get_xlabel() == 'ms'
    found = {}
    for container in axes.containers:
      line = container.lines[0]
      points = [tuple(point) for point in line.get_xydata()]
      label, = (text for text in axes.texts if text.xy == points[0])
      assert label.get_color() == line.get_color()
      found[label.get_text()] = line.get_linestyle(), points
    assert found == expected
    bars, = axes.containers[0].lines[2]   # Of three runs, not of two.
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [
        [80, 80], [84.5, 85.5]]
    rings = [line for line in axes.lines if line.get_fillstyle() == 'none']
    assert [point.tolist() for line in rings
            for point in line.get_xydata()] == [[4, 81]]
  assert picture[:4] == b'\x89PNG'


def test_the_figure_of_costs_shows_both_tables(monkeypatch):
  """Solid for all layers, dashed for conv1 alone, and a star."""
  def costs(millions, parameters):
    return dict(multiply_adds_mean=decimal.Decimal(millions * 10**6),
                parameters_mean=decimal.Decimal(parameters))

  network = ('least_squares', 'network')
  table = [row(128, 'scratch', '', 'no', 2.0),   # Of no known cost.
           row(64, 'scratch', '', 'no', 85.0, **costs(16, 1000000)),
           row(8, 'scratch', '', 'no', 81.0, 3, top1_sd=decimal.Decimal('0.5'),
               **costs(4, 900000)),
           row(8, *network, 'no', 70.0, **costs(4, 900000)),
           row(8, *network, 'yes', 82.0, **costs(4, 900000)),
           row(8, 'thinet', 'none', 'yes', 60.0, **costs(4, 900000))]
  budgets = [row(None, 'scratch', '', 'no', 80.0, **costs(8, 500000)),
             row(None, *network, 'yes', 84.0, **costs(8, 500000)),
             row(None, *network, 'yes', 83.0, **costs(3, 250000))]
  drawn = []
  monkeypatch.setattr(figures.pyplot, 'close', drawn.append)
  assert figures.draw_costs(table, budgets, report.costs(None)
                            )[:4] == b'\x89PNG'
  assert [axes.get_xlabel() for axes in drawn[0].axes] == [
      'million multiply-adds an image', 'parameters, MB']
  black, blue = (figures.COLOURS[name]
                 for name in ('scratch', 'least_squares, network'))
  for axes, slim, wide, half, quarter in zip(drawn[0].axes, (4, 3.6), (16, 4),
                                             (8, 2), (3, 1)):
    lines = [container.lines[0] for container in axes.containers]
    assert [(line.get_color(), line.get_linestyle(),
             [tuple(point) for point in line.get_xydata().round(9)])
            for line in lines] == [
                (black, '--', [(slim, 81), (wide, 85)]),
                (blue, '--', [(slim, 82)]),
                (black, '-', [(half, 80)]),
                (blue, '-', [(quarter, 83), (half, 84)])]
    bars, = axes.containers[0].lines[2]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [
        [80.5, 81.5], [85, 85]]
    star, = (line for line in axes.lines if line.get_marker() == '*')
    assert star.get_xydata().tolist() == [[wide, 85]]
    assert {text.get_text(): tuple(np.round(text.xy, 9))
            for text in axes.texts} == {
        'parent': (wide, 85), 'least_squares, network': (quarter, 83),
        'scratch': min((slim, 81), (half, 80))}
    low, high = axes.get_xlim()   # All text is beside what is drawn.
    drawn[0].canvas.draw()
    for text in axes.texts:
      ends = axes.transData.inverted().transform(text.get_window_extent())
      assert low < ends[0, 0] and ends[1, 0] < high
      assert ends[1, 0] < quarter or ends[0, 0] > wide


@pytest.mark.parametrize('top1', [20.0, 80.0])
def test_labels_of_equal_curves_do_not_touch(monkeypatch, top1):
  """They stay inside the axes, at the bottom and at the top."""
  table = [row(8, name, 'full', 'no', top1) for name in 'abcdef']
  table += [row(8, 'g', 'full', 'no', 100.0 - top1)]
  drawn = []
  monkeypatch.setattr(figures.pyplot, 'close', drawn.append)
  figures.draw(table, {8: 4.0}, 'ms')
  axes = drawn[0].axes[0]
  low, high = axes.get_ylim()
  heights = sorted(text.xyann[1] for text in axes.texts)
  assert np.diff(heights).min() > 0.05 * (high - low)
  assert low <= heights[0] and heights[-1] <= high


def test_what_is_drawn_of_the_committed_networks(tmp_path, monkeypatch):
  """Both figures: the costs of each width, and the means of table.csv."""
  path = tmp_path / 'networks.csv'
  shutil.copy(os.path.join(RESULTS, 'networks.csv'), path)
  drawn = {}
  monkeypatch.setattr(figures, 'draw', lambda table, cost, name: drawn.update(
      {name: (table, cost)}) or name.encode())
  assert run(path).returncode == 0
  widths = (64, 48, 32, 24, 16, 8)
  assert {name: cost for name, (_, cost) in drawn.items()} == {
      'channels of conv1': dict(zip(widths, widths)),
      'million multiply-adds an image': dict(zip(widths, (
          18.470784, 14.093184, 9.715584, 7.526784, 5.337984, 3.149184)))}
  for name, title in (('conv1_channels', 'channels of conv1'),
                      ('multiply_adds', 'million multiply-adds an image')):
    assert (tmp_path / ('top1_by_%s.png' % name)).read_text() == title
  with open(os.path.join(RESULTS, 'table.csv')) as source:
    means = [each['top1_mean'] for each in csv.DictReader(source)]
  for table, _ in drawn.values():
    assert [report.rounded(each)['top1_mean'] for each in table] == means


def test_the_figure_of_measured_costs(monkeypatch, tmp_path):
  """A width by its name, a budget by its network's; others are left out."""
  path = tmp_path / 'latency.json'
  path.write_text(json.dumps({
      '64': {'widths': [64], 'latency_ms_batch128': 16, 'latency_ms_batch1': 1,
             'file_bytes': 4000000},
      'least_squares_network_budget0.5': {
          'widths': [34], 'latency_ms_batch128': 8, 'latency_ms_batch1': 0.5,
          'file_bytes': 2000000}, 'machine': 'any'}))
  table = [row(64, 'scratch', '', 'no', 85.0), row(8, 'scratch', '', 'no', 81)]
  network = ('least_squares', 'network')
  budgets = [dict(row(None, *network, 'yes', 84.0), budget='0.5'),
             dict(row(None, *network, 'yes', 83.0), budget='0.25')]
  drawn = []
  monkeypatch.setattr(figures.pyplot, 'close', drawn.append)
  figures.draw_costs(table, budgets, report.costs(report.read_latencies(path)))
  found = {axes.get_xlabel(): sorted(
      tuple(map(float, point)) for line in axes.containers
      for point in line.lines[0].get_xydata()) for axes in drawn[0].axes}
  assert found == {'ms for 128 images': [(8, 84), (16, 85)],
                   'ms for one image': [(0.5, 84), (1, 85)],
                   'exported file, MB': [(2, 84), (4, 85)]}
  assert [[text.get_text() for text in axes.get_xticklabels()]
          for axes in drawn[0].axes] == [
              ['10', '12', '14'], ['0.625', '0.75', '0.875'],
              ['2.5', '3', '3.5']]


def test_figures_do_not_depend_on_their_readers_settings(tmp_path):
  """A notebook's backend, which this environment lacks, and no LaTeX."""
  sweep = made_up.sweep(tmp_path / 'sweep')
  run(sweep)
  before = (sweep / 'top1_by_conv1_channels.png').read_bytes()
  (sweep / 'matplotlibrc').write_text('text.usetex: True\nfont.size: 30\n')
  process = started(sweep, subprocess.PIPE, MPLBACKEND='module://missing',
                    MATPLOTLIBRC=str(sweep / 'matplotlibrc'))
  _, errors = process.communicate()
  assert (process.returncode, errors) == (0, b'')
  assert (sweep / 'top1_by_conv1_channels.png').read_bytes() == before
