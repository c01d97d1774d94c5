"""Compares ways to choose the widths under a budget, parent by parent.

  python results/widths.py results/all_layers/widths.json \\
      [--readme=results/all_layers/README.md]

Reads what benchmarks/budget_networks.py printed, a line a parent. Prints the
points of top-1 by which the widths of least loss end above others: under the
same budget, uniform shares and the global L1 ranking; and, with conv1's
multiply-adds and half of its parameters, conv1 alone. --readme puts the table
between <!-- widths --> and <!-- /widths --> of a file.
"""
import argparse
import decimal
import json
import sys

import differences
import reading
import report
import tables

from thinet import files

OTHERS = {'uniform': 'the same share of every width',
          'global_l1': 'one ranking of all channels by L1',
          'conv1': 'conv1 alone'}


def read(path):
  """Reads a list of parents: budget -> way -> figure -> number.

  Raises:
    OSError, ValueError and others: it is not what budget_networks.py prints.
  """
  parents, seeds = [], []
  for line in reading.read_text(path).splitlines():
    whole = json.loads(line, parse_float=decimal.Decimal)
    seeds.append(whole['seed'])
    parents.append({
        budget: {way: {top1: reading.number(top1, str(figures[top1]))
                       for top1 in ('top1', 'top1_finetuned')}
                 for way, figures in by_way.items()}
        for budget, by_way in whole.items() if isinstance(by_way, dict)})
  names = [{budget: list(by_way) for budget, by_way in each.items()}
           for each in parents]
  if not names or not names[0] or any(each != names[0] for each in names):
    raise ValueError('its lines are not of the same budgets and ways')
  if len(set(seeds)) < len(seeds):
    raise ValueError('a seed is there twice')
  return parents


def table(parents):
  """The table in Markdown: paired means, 95 % t-intervals, and n."""
  lines = [['budget', 'above', 'network', 'network, fine-tuned']]
  for budget, by_way in parents[0].items():
    ours, *others = by_way if budget != 'equal' else ('half', 'conv1')
    for other in others:
      lines.append([budget, OTHERS[other]] + [
          differences.paired([each[budget][ours][top1] -
                              each[budget][other][top1] for each in parents])
          for top1 in ('top1', 'top1_finetuned')])
  return tables.grid(lines, left=['above'])


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('source', help='output of budget_networks.py, a line a '
                      'parent')
  parser.add_argument('--readme', help='file whose marked section to replace')
  arguments = parser.parse_args()
  try:
    text = table(read(arguments.source))
  except (OSError, ValueError, LookupError, TypeError, AttributeError,
          ArithmeticError, RecursionError) as error:
    sys.exit('%s cannot be read (%s: %s); give what benchmarks/'
             'budget_networks.py printed, a line a parent.' % (
                 arguments.source, type(error).__name__, error))
  if arguments.readme is not None:
    try:
      report.fill_in(arguments.readme, {'widths': text})
    except files.FileError as error:
      sys.exit(str(error))
  report.show(text)
  return 0


if __name__ == '__main__':
  sys.exit(main())
