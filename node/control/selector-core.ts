// Owns the selectors by which people name hosts: `web1,edge-*,@home` (comma = or), `&`, `!`, parentheses, `@all`. Errors
// quote the selector and the position, and name what was probably meant.

import { ParleyError } from '../../protocols/errors.ts';

export type Selector =
  | { readonly kind: 'host'; readonly pattern: string; readonly at: number }
  | { readonly kind: 'tag'; readonly tag: string; readonly at: number }
  | { readonly kind: 'not'; readonly operand: Selector }
  | { readonly kind: 'and' | 'or'; readonly operands: readonly Selector[] };

/** A host that can be selected. `tags` come from the policy. */
export interface SelectableHost {
  readonly name: string;
  readonly tags: readonly string[];
}

/** Parentheses and `!` within each other: the parser recurses. */
const depthMax = 32;
const wordPattern = /[A-Za-z0-9._*?-]+/y;
const namesSuggestedMax = 4;

/** @throws ParleyError `bad-selector` with the position (counted from 1) of what could not be read. */
export function parseSelector(text: string): Selector {
  let at = 0;

  const skipSpace = () => {
    while (text[at] === ' ' || text[at] === '\t') at += 1;
  };
  const take = (character: string): boolean => {
    skipSpace();
    if (text[at] !== character) return false;
    at += 1;
    return true;
  };
  const fail = (expected: string): ParleyError => {
    const found = at >= text.length ? 'its end' : `'${text[at]}'`;
    return badSelector(text, at, `expected ${expected}, found ${found}`);
  };

  function word(expected: string): string {
    wordPattern.lastIndex = at;
    const match = wordPattern.exec(text)?.[0];
    if (match === undefined) throw fail(expected);
    at += match.length;
    return match;
  }

  function list(kind: 'and' | 'or', separator: string, operand: (depth: number) => Selector, depth: number): Selector {
    const first = operand(depth);
    const operands = [first];
    while (take(separator)) operands.push(operand(depth));
    return operands.length === 1 ? first : { kind, operands };
  }

  const union = (depth: number): Selector => list('or', ',', intersection, depth);
  const intersection = (depth: number): Selector => list('and', '&', operand, depth);

  function operand(depth: number): Selector {
    if (depth > depthMax) throw badSelector(text, at, `more than ${depthMax} levels of '!' and parentheses`);
    if (take('!')) return { kind: 'not', operand: operand(depth + 1) };
    if (take('(')) {
      const inner = union(depth + 1);
      if (!take(')')) throw fail("',', '&' or ')'");
      return inner;
    }
    const start = at;
    if (take('@')) return { kind: 'tag', tag: word('the name of a tag'), at: start };
    return { kind: 'host', pattern: word("a host, '@tag', '!' or '('"), at: start };
  }

  const selector = union(0);
  skipSpace();
  if (at < text.length) throw fail("',', '&' or the end");
  return selector;
}

/**
 * The hosts that a selector names, sorted, each once.
 * @throws ParleyError `bad-selector`, `unknown-host` or `unknown-tag` (with near names), `empty-selection`.
 */
export function selectHosts(text: string, hosts: readonly SelectableHost[]): string[] {
  const selector = parseSelector(text);
  if (hosts.length === 0) {
    throw new ParleyError('empty-selection', `'${text}' selects no host: the fleet has none`, {
      hint: 'Add `nixosConfigurations.<host>` to the project and `commit`, then enrol the device with `invite`.',
    });
  }
  const selected = evaluate(selector, text, hosts);
  if (selected.size === 0) {
    throw new ParleyError('empty-selection', `'${text}' selects no host: none of ${hosts.length} fits`, {
      hint: `The hosts are ${shortList(hosts.map((host) => host.name))}.`,
    });
  }
  return [...selected].sort();
}

function evaluate(selector: Selector, text: string, hosts: readonly SelectableHost[]): Set<string> {
  switch (selector.kind) {
    case 'host':
      return new Set(hostsLike(selector, text, hosts));
    case 'tag':
      return new Set(hostsTagged(selector, text, hosts));
    case 'not': {
      const without = evaluate(selector.operand, text, hosts);
      return new Set(hosts.map((host) => host.name).filter((name) => !without.has(name)));
    }
    case 'and':
      return selector.operands
        .map((operand) => evaluate(operand, text, hosts))
        .reduce((all, one) => all.intersection(one));
    case 'or':
      return selector.operands.map((operand) => evaluate(operand, text, hosts)).reduce((all, one) => all.union(one));
  }
}

function hostsLike(
  { pattern, at }: { readonly pattern: string; readonly at: number },
  text: string,
  hosts: readonly SelectableHost[],
): string[] {
  const names = hosts.map((host) => host.name);
  const found = names.filter((name) => matchesGlob(pattern, name));
  if (found.length > 0) return found;
  throw unknown(
    'unknown-host',
    { text, at, what: /[*?]/.test(pattern) ? 'no host fits' : 'no host is called' },
    pattern,
    names,
  );
}

function hostsTagged(
  { tag, at }: { readonly tag: string; readonly at: number },
  text: string,
  hosts: readonly SelectableHost[],
): string[] {
  if (tag === 'all') return hosts.map((host) => host.name);
  const found = hosts.filter((host) => host.tags.includes(tag)).map((host) => host.name);
  if (found.length > 0) return found;
  const tags = [...new Set(hosts.flatMap((host) => host.tags)), 'all'].map((name) => `@${name}`);
  throw unknown('unknown-tag', { text, at, what: 'no host has the tag' }, `@${tag}`, tags);
}

/** `*` stands for any run of characters, `?` for one. Linear in time for each star, so that no pattern can stall a peer. */
export function matchesGlob(pattern: string, name: string): boolean {
  let at = 0;
  let nameAt = 0;
  let starAt = -1;
  let resumeAt = 0;
  while (nameAt < name.length) {
    if (pattern[at] === '*') {
      starAt = at;
      resumeAt = nameAt;
      at += 1;
    } else if (at < pattern.length && (pattern[at] === '?' || pattern[at] === name[nameAt])) {
      at += 1;
      nameAt += 1;
    } else if (starAt >= 0) {
      at = starAt + 1;
      resumeAt += 1;
      nameAt = resumeAt;
    } else return false;
  }
  while (pattern[at] === '*') at += 1;
  return at === pattern.length;
}

/** Known names that a mistyped one probably meant, best first; empty when none is near. */
export function nearNames(typed: string, known: readonly string[]): string[] {
  return known
    .map((name) => ({ name, distance: editDistance(typed.toLowerCase(), name.toLowerCase()) }))
    .filter(
      ({ name, distance }) =>
        distance <= Math.max(1, Math.min(3, Math.floor(name.length / 3))) || name.startsWith(typed),
    )
    .sort((a, b) => a.distance - b.distance || (a.name < b.name ? -1 : 1))
    .slice(0, namesSuggestedMax)
    .map(({ name }) => name);
}

/** Insertions, deletions, replacements and swaps of neighbours that lead from one name to the other. */
function editDistance(from: string, to: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, at) => at);
  for (let row = 1; row <= from.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= to.length; column += 1) {
      const replaced = (last[column - 1] ?? 0) + (from[row - 1] === to[column - 1] ? 0 : 1);
      const swapped = row > 1 && column > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1];
      const swappedCost = swapped ? (beforeLast[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY;
      current.push(Math.min(replaced, swappedCost, (last[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    beforeLast = last;
    last = current;
  }
  return last[to.length] ?? 0;
}

function unknown(
  code: 'unknown-host' | 'unknown-tag',
  place: { readonly text: string; readonly at: number; readonly what: string },
  typed: string,
  known: readonly string[],
): ParleyError {
  const near = nearNames(typed, known);
  const hint = near.length > 0 ? `Did you mean ${near.join(' or ')}?` : `Known are ${shortList(known)}.`;
  return new ParleyError(code, `selector '${place.text}' at ${place.at + 1}: ${place.what} '${typed}'`, { hint });
}

function shortList(names: readonly string[]): string {
  const shown = [...names].sort().slice(0, 12);
  return names.length > shown.length ? `${shown.join(', ')} and ${names.length - shown.length} more` : shown.join(', ');
}

function badSelector(text: string, at: number, state: string): ParleyError {
  return new ParleyError('bad-selector', `selector '${text}' cannot be read at ${at + 1}: ${state}`, {
    hint: "Write hosts, globs and @tags with ',' (or), '&' (and), '!' (not) and parentheses, for example '@home & !web1'.",
  });
}
