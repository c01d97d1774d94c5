"""Compares ways to choose the widths under a budget, parent by parent.

  python results/ways.py results/all_layers/ways.json [--readme=README.md]

Reads what benchmarks/budget_networks.py printed, a line a parent. Prints the
points of top-1 by which the widths of least loss end above others: under the
same budget, uniform shares and the global L1 ranking; and, with conv1's
multiply-adds and half of its parameters, conv1 alone. --readme puts the table
between <!-- ways --> and <!-- /ways --> of a file.
"""
import argparse
import decimal
import json
import sys

import report
import tables

from thinet import files

OTHERS = {'uniform': 'the same share of every width',
          'global_l1': 'one ranking of all channels by L1',
          'conv1': 'conv1 alone'}


def table(parents):
  """The table in Markdown: paired means, 95 % t-intervals, and n.

  Args:
    parents: list of what budget_networks.py printed for each.
  """
  lines = [['budget', 'above', 'network', 'network, fine-tuned']]
  for budget, by_way in parents[0].items():
    if not isinstance(by_way, dict):
      continue   # The seed, for example.
    ours, *others = by_way if budget != 'equal' else ('half', 'conv1')
    for other in others:
      lines.append([budget, OTHERS[other]] + [
          tables.paired([decimal.Decimal(each[budget][ours][top1]) -
                         decimal.Decimal(each[budget][other][top1])
                         for each in parents])
          for top1 in ('top1', 'top1_finetuned')])
  return tables.grid(lines, left=['above'])


def main():
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('source', help='output of budget_networks.py, a line a '
                      'parent')
  parser.add_argument('--readme', help='file whose marked section to replace')
  arguments = parser.parse_args()
  try:
    text = table([json.loads(line, parse_float=decimal.Decimal)
                  for line in report.read_text(arguments.source).splitlines()])
  except (OSError, ValueError, LookupError, TypeError) as error:
    sys.exit('%s cannot be read (%s: %s); give what benchmarks/'
             'budget_networks.py printed, a line a parent.' % (
                 arguments.source, type(error).__name__, error))
  if arguments.readme:
    try:
      report.write(arguments.readme, report.replace_sections(
          report.read_text(arguments.readme), {'ways': text}).encode())
    except (OSError, ValueError, files.FileError) as error:
      sys.exit('%s cannot take the table (%s); name a file with both markers.' %
               (arguments.readme, error))
  report.show(text)
  return 0


if __name__ == '__main__':
  sys.exit(main())
