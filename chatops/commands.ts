// Owns the table of commands, those of membership-commands.ts among them: how each is written, what it is for, examples,
// what can be completed, and which request it becomes. Parsing, help and completion all read it, so that they cannot disagree.

import type { Command } from '../protocols/control.ts';
import { ParleyError } from '../protocols/errors.ts';
import { type CommandSpec, host, noWait, plain, selector, task } from './command-spec.ts';
import { membershipSpecs } from './membership-commands.ts';

const others: readonly CommandSpec[] = [
  {
    ...plain,
    name: 'status',
    group: 'look',
    summary: 'the fleet: controller, peers, what each runs and should run',
    examples: ['status', 'status --json'],
    build: () => ({ name: 'status' }),
  },
  {
    ...plain,
    name: 'peers',
    group: 'look',
    summary: 'the peers: addresses of the mesh, when last seen, bytes by site',
    examples: ['peers'],
    build: () => ({ name: 'peers' }),
  },
  {
    ...plain,
    name: 'history',
    group: 'look',
    summary: 'the newest commits and which hosts run them',
    arguments: [{ name: 'COUNT', kind: 'number', required: false }],
    examples: ['history', 'history 50'],
    build: (words) => ({ name: 'history', limit: readCount(words.argument('COUNT') ?? '20') }),
  },
  {
    ...plain,
    name: 'notices',
    group: 'look',
    summary: 'what the fleet had to say',
    options: [
      { name: 'after', value: 'NUMBER', summary: 'only notices after this one' },
      { name: 'follow', short: 'f', summary: 'go on with those that come' },
    ],
    examples: ['notices', 'notices --after 12'],
    build: (words) => ({
      name: 'notices',
      after: readCount(words.option('after') ?? '0'),
      follow: words.given('follow'),
    }),
  },
  {
    ...plain,
    name: 'whoami',
    group: 'look',
    summary: 'who you are here and what you may do',
    examples: ['whoami', 'as alice whoami'],
    build: () => ({ name: 'whoami' }),
  },
  {
    ...plain,
    name: 'diff',
    group: 'project',
    summary: 'what the draft changes',
    examples: ['diff'],
    usesWorkFolder: true,
    build: () => ({ name: 'diff' }),
  },
  {
    ...plain,
    name: 'discard',
    group: 'project',
    summary: 'forget the draft; the files of the work folder stay',
    examples: ['discard'],
    build: () => ({ name: 'discard' }),
  },
  {
    ...plain,
    name: 'commit',
    group: 'project',
    summary: 'commit the draft',
    arguments: [{ name: 'MESSAGE', kind: 'text', required: false, rest: true }],
    options: [{ name: 'message', short: 'm', value: 'MESSAGE', summary: 'the message, instead of the words' }, noWait],
    examples: ['commit open the web port', 'commit -m "open the web port"'],
    follows: true,
    usesWorkFolder: true,
    build: (words) => ({
      name: 'commit',
      message: words.option('message') ?? (words.rest('MESSAGE').join(' ') || null),
    }),
  },
  {
    ...plain,
    name: 'update',
    group: 'project',
    summary: "refresh the flake's inputs (all without a name) into the draft",
    arguments: [{ name: 'INPUT', kind: 'text', required: false, rest: true }],
    options: [noWait],
    examples: ['update', 'update nixpkgs'],
    follows: true,
    usesWorkFolder: true,
    build: (words) => ({ name: 'update', inputs: words.rest('INPUT') }),
  },
  {
    ...plain,
    name: 'build',
    group: 'project',
    summary: 'evaluate and build hosts of the newest commit, and touch none',
    arguments: [selector],
    options: [noWait],
    examples: ['build @all', 'build web1,web2'],
    follows: true,
    build: (words) => ({ name: 'build', selector: words.argument('SELECTOR') }),
  },
  {
    ...plain,
    name: 'deploy',
    group: 'fleet',
    summary: 'build hosts of the newest commit, plan, wait for approval, switch',
    arguments: [selector],
    options: [
      { name: 'keep-going', summary: 'a host that cannot be evaluated or built fails alone' },
      { name: 'commit', value: 'MESSAGE', summary: 'first commit the draft with this message' },
      noWait,
    ],
    examples: ['deploy @all', 'deploy "edge-*, web1" --keep-going', 'deploy @home&!@guinea-pig --commit "new kernel"'],
    follows: true,
    usesWorkFolder: true,
    build: (words) => ({
      name: 'deploy',
      selector: words.argument('SELECTOR'),
      keepGoing: words.given('keep-going'),
      commitMessage: words.option('commit') ?? null,
    }),
  },
  {
    ...plain,
    name: 'approve',
    group: 'fleet',
    summary: 'say yes to the plan of a task',
    arguments: [task],
    options: [{ name: 'plan', value: 'HASH', summary: 'only if this is still the plan' }, noWait],
    examples: ['approve t3', 'approve t3 --no-wait'],
    follows: true,
    build: (words) => ({ name: 'approve', task: words.argument('TASK'), plan: words.option('plan') ?? null }),
  },
  {
    ...plain,
    name: 'reject',
    group: 'fleet',
    summary: 'say no to the plan of a task',
    arguments: [task, { name: 'REASON', kind: 'text', required: false, rest: true }],
    options: [{ name: 'plan', value: 'HASH', summary: 'only if this is still the plan' }],
    examples: ['reject t3', 'reject t3 not on a Friday'],
    build: (words) => ({
      name: 'reject',
      task: words.argument('TASK'),
      plan: words.option('plan') ?? null,
      reason: words.rest('REASON').join(' ') || null,
    }),
  },
  {
    ...plain,
    name: 'rollback',
    group: 'fleet',
    summary: 'switch a host back to what it ran before',
    arguments: [host],
    options: [noWait],
    examples: ['rollback web1'],
    follows: true,
    build: (words) => ({ name: 'rollback', host: words.argument('HOST') }),
  },
  {
    ...plain,
    name: 'tasks',
    group: 'tasks',
    summary: 'the tasks that run or wait, and the newest that ended',
    options: [{ name: 'all', short: 'a', summary: 'every task that is kept' }],
    examples: ['tasks', 'tasks --all'],
    build: (words) => ({ name: 'tasks', all: words.given('all') }),
  },
  {
    ...plain,
    name: 'task',
    group: 'tasks',
    summary: 'one task: its tree, its plan, what was said',
    arguments: [task],
    examples: ['task t3', 'task t3/web1'],
    build: (words) => ({ name: 'task', task: words.argument('TASK') }),
  },
  {
    ...plain,
    name: 'watch',
    group: 'tasks',
    summary: 'follow a task until it ends or waits for a person',
    arguments: [task],
    examples: ['watch t3'],
    follows: true,
    build: (words) => ({ name: 'watch', task: words.argument('TASK') }),
  },
  {
    ...plain,
    name: 'logs',
    group: 'tasks',
    summary: 'what the programs of a task wrote',
    arguments: [task],
    options: [{ name: 'follow', short: 'f', summary: 'go on until the task ends' }],
    examples: ['logs t3', 'logs t3/web1 --follow'],
    build: (words) => ({ name: 'logs', task: words.argument('TASK'), follow: words.given('follow') }),
  },
  {
    ...plain,
    name: 'abort',
    group: 'tasks',
    summary: 'end a task; what is past the point of no return goes on',
    arguments: [task],
    examples: ['abort t3'],
    build: (words) => ({ name: 'abort', task: words.argument('TASK') }),
  },
  {
    ...plain,
    name: 'retry',
    group: 'tasks',
    summary: 'do again what failed of a task',
    arguments: [task],
    options: [noWait],
    examples: ['retry t3'],
    follows: true,
    build: (words) => ({ name: 'retry', task: words.argument('TASK') }),
  },
];

const specs: readonly CommandSpec[] = [...others, ...membershipSpecs];

export const commandNames: readonly string[] = specs.map((spec) => spec.name);
export const groupTitles = [
  ['look', 'Look'],
  ['project', 'Project'],
  ['fleet', 'Fleet'],
  ['tasks', 'Tasks'],
] as const;

export function findSpec(name: string): CommandSpec | undefined {
  return specs.find((spec) => spec.name === name);
}

/** The command that a line's first words name, and how many of them do. */
export function namedSpec(
  words: readonly string[],
): { readonly spec: CommandSpec; readonly count: number } | undefined {
  for (const count of [2, 1]) {
    const spec = words.length < count ? undefined : findSpec(words.slice(0, count).join(' '));
    if (spec !== undefined) return { spec, count };
  }
  return undefined;
}

/** Second words that make another command of the first: `add`, `remove` and `replace` of `voters`. */
export function secondWords(first: string): string[] {
  return commandNames.filter((name) => name.startsWith(`${first} `)).map((name) => name.slice(first.length + 1));
}

export function specsOf(group: CommandSpec['group']): readonly CommandSpec[] {
  return specs.filter((spec) => spec.group === group);
}

/** Whether the command looks at the caller's checkout of the project. */
export function usesWorkFolder(command: Command): boolean {
  return findSpec(command.name)?.usesWorkFolder ?? false;
}

/** How a command is written: `deploy SELECTOR [--keep-going] [--commit MESSAGE] [--no-wait]`. */
export function usageOf(spec: CommandSpec): string {
  const words = spec.arguments.map((argument) => {
    const name = argument.rest === true ? `${argument.name}…` : argument.name;
    return argument.required ? name : `[${name}]`;
  });
  const options = spec.options.map((option) => {
    const text = option.value === undefined ? `--${option.name}` : `--${option.name} ${option.value}`;
    return option.required === true ? text : `[${text}]`;
  });
  return [spec.name, ...words, ...options].join(' ');
}

function readCount(text: string): number {
  if (!/^[0-9]{1,9}$/.test(text)) throw new ParleyError('usage', `expected a number: got '${text}'`);
  return Number(text);
}
