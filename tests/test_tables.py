"""The means and tables of results/tables.py in decimal and by hand."""
import csv
import decimal
import os
import re

import conftest
import made_up
import matplotlib
import pytest
import reading
import report
import tables
from made_up import RESULTS


@pytest.mark.parametrize('values, three, two', [
    (['85.2449'], '85.245', '85.24'),             # Rounded twice: 85.25.
    (['84.08', '84.09'], '84.085', '84.09'),      # In binary: 84.08.
    (['10', '10.2449', '10.4898'], '10.245', '10.24'),
    (['0.004', '0.0045', '0.0055'], '0.005', '0.00')])
def test_a_mean_is_rounded_once(values, three, two):
  network = dict.fromkeys(reading.COLUMNS, '')
  network.update(conv1_channels='8', criterion='scratch', fine_tuned='no',
                 top5='100')
  row, = tables.rows([reading.network(dict(network, top1=value))
                      for value in values], {})
  assert report.rounded(row)['top1_mean'] == three
  assert tables.spread(row, 'top1').split(' ± ')[0] == two


def test_a_standard_deviation_is_rounded_once():
  network = dict.fromkeys(reading.COLUMNS, '')
  network.update(conv1_channels='8', criterion='scratch', fine_tuned='no',
                 top5='100')
  row, = tables.rows([reading.network(dict(network, top1=value))
                      for value in ('10', '10.2449', '10.4898')], {})
  assert report.rounded(row)['top1_sd'] == '0.245'
  assert tables.spread(row, 'top1') == '10.24 ± 0.24'
  assert tables.shown(decimal.Decimal('-0.004')) == '0.00'


def read_csv(name):
  return list(csv.DictReader(open(os.path.join(RESULTS, name))))


@pytest.mark.parametrize('accuracy', ['top1', 'top5'])
def test_committed_table_in_decimal(accuracy):
  """Every mean and deviation of table.csv, from the lines of networks.csv."""
  groups = {}
  mode = ['conv1_channels', 'criterion', 'reconstruction', 'fine_tuned']
  for line in read_csv('networks.csv'):
    if not line['budget'] and line['finetune_epochs'] in ('', '20'):
      groups.setdefault(tuple(line[name] for name in mode), []).append(
          decimal.Decimal(line[accuracy]))
  found = read_csv('table.csv')
  assert len(found) == len(groups) > 30
  for row in found:
    values = groups[tuple(row[name] for name in mode)]
    mean = sum(values) / len(values)
    assert int(row['n']) == len(values)
    expected = [mean]
    if len(values) > 1:
      expected.append((sum((value - mean) ** 2 for value in values) /
                       (len(values) - 1)).sqrt())
    assert [row[accuracy + '_mean'], row[accuracy + '_sd']][:len(expected)] == [
        str(value.quantize(decimal.Decimal('0.001'), decimal.ROUND_HALF_UP))
        for value in expected]


def helvetica():
  """Character -> width in thousandths of the font's size."""
  path = os.path.join(matplotlib.get_data_path(), 'fonts', 'pdfcorefonts')
  widths = {}
  for name in ('Helvetica', 'Helvetica-Bold'):
    lines = open(os.path.join(path, name + '.afm'), encoding='latin-1').read()
    widths[name] = {chr(int(code)): int(width) for code, width in re.findall(
        r'^C (\d+) ; WX (\d+) ;', lines, re.M)}
    widths[name]['±'] = widths[name]['+']
  return widths


@pytest.mark.parametrize('name', ['README.md', 'results/README.md',
                                  'results/all_layers/README.md'])
def test_no_cell_of_a_marked_table_wraps(name):
  """GitHub has 830 pixels: 16 to the letter, 13 beside a cell and 1 of line."""
  widths = helvetica()

  def pixels(text, font):
    return 27 + 0.016 * sum(widths[font][letter] for letter in text)

  text = open(os.path.join(conftest.ROOT, name), encoding='utf-8').read()
  sections = re.findall(r'<!-- ([a-z_ -]+) -->\n(.*?)\n<!-- /\1 -->', text,
                        re.S)
  assert sections
  for _, table in sections:
    cells = [[cell.strip() for cell in line.strip('|').split('|')]
             for line in table.splitlines()]
    assert 3 < len(cells) and len(cells[0]) <= 6
    assert 1 + sum(max([pixels(column[0], 'Helvetica-Bold')] +
                       [pixels(cell, 'Helvetica') for cell in column[2:]])
                   for column in zip(*cells)) <= 830


def test_narrow_table_by_hand(tmp_path):
  networks = reading.read_folder(str(made_up.sweep(tmp_path / 'sweep')), [])
  table = tables.narrow(tables.rows(networks, {}))
  assert table.splitlines() == [
      '| conv1 |          scratch | scratch, fine-tuned | network | '
      'network, fine-tuned |',
      '| ----: | ---------------: | ------------------: | ------: | '
      '------------------: |',
      '|    64 | 85.00 ± 1.00 (3) |                     |         | '
      '                    |']   # At 8 channels there are other modes alone.
  assert tables.narrow(tables.rows(networks, {}), tables.REST).splitlines() == [
      '| conv1 |      none | scale | none, fine-tuned | scale, fine-tuned | '
      'full, fine-tuned |',
      '| ----: | --------: | ----: | ---------------: | ----------------: | '
      '---------------: |',
      '|     8 | 13.50 (1) |       |        75.50 (2) |                   | '
      '                 |']
