// Owns the text of `help`, made from the table of commands.

import { ParleyError } from '../protocols/errors.ts';
import { commandNames, findSpec, groupTitles, specsOf, usageOf } from './commands.ts';
import { nearestNames } from './nearest.ts';
import type { Paint } from './paint.ts';
import { columnsMax, cut, pad } from './words.ts';

const nameColumns = 16;

/** All commands by group, one line each; `more` are sections that the front end adds about itself. */
export function renderHelp(paint: Paint, more: readonly (readonly string[])[] = []): string[] {
  const sections = groupTitles.map(([group, title]) => [
    paint('strong', title),
    ...specsOf(group).map((spec) => cut(`  ${pad(spec.name, nameColumns)}${spec.summary}`, columnsMax)),
  ]);
  const selectors = [
    paint('strong', 'Selectors'),
    '  host, edge-*, @tag, @all; a comma is "or", & "and", ! "not", parentheses group. Quote blanks.',
  ];
  return [...sections, selectors, ...more].flatMap((section) => [...section, '']).concat("'help COMMAND' shows more.");
}

/**
 * One command: how it is written, its options, examples.
 * @throws ParleyError `usage` for an unknown command.
 */
export function renderCommandHelp(topic: string, paint: Paint): string[] {
  const spec = findSpec(topic);
  if (spec === undefined) {
    const nearest = nearestNames(topic, commandNames);
    const hint = nearest.length === 0 ? "'help' lists the commands." : `Did you mean ${nearest.join(' or ')}?`;
    throw new ParleyError('usage', `no help for '${topic}': no such command`, { hint });
  }
  const options = spec.options.map((option) => {
    const short = option.short === undefined ? '' : `, -${option.short}`;
    const value = option.value === undefined ? '' : ` ${option.value}`;
    return `  ${pad(`--${option.name}${short}${value}`, 24)}${option.summary}`;
  });
  return [
    paint('strong', usageOf(spec)),
    `  ${spec.summary}`,
    ...options,
    `  ${pad('--json', 24)}print the answer as one JSON document`,
    'Examples:',
    ...spec.examples.map((example) => `  ${example}`),
  ];
}
