// Holds the house rules that no tool checks: which way imports run, which room owns which library, sizes, headers, and words
// that must not get in. Each rule names the file, the line and what to do instead.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

const root = path.resolve(import.meta.dirname, '..');
const linesMax = 400;
const headerLinesMax = 5;

/** Everything that git tracks or would track. */
const files = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], { cwd: root })
  .toString()
  .split('\0')
  .filter((file) => file !== '' && existsSync(path.join(root, file)));
const read = (file: string) => readFileSync(path.join(root, file), 'utf8');
const sources = files.filter((file) => file.endsWith('.ts')).map((file) => ({ file, text: read(file) }));

/** What each top folder may import from, besides itself. */
const layers: Readonly<Record<string, readonly string[]>> = {
  protocols: [],
  node: ['protocols'],
  chatops: ['protocols', 'node'],
  scripts: ['protocols', 'node', 'chatops'],
  test: ['protocols', 'node', 'chatops', 'scripts'],
};

/** Files of node/ that no room owns: they join the rooms, or are shared by all. */
const joiners = [
  ...['node/main.ts', 'node/create-node.ts', 'node/peer-command.ts', 'node/enrolment.ts', 'node/recovery.ts'],
  ...['node/config.ts', 'node/arguments.ts'],
];
const sharedByRooms = ['node/interfaces.ts', 'node/keys.ts', 'node/waiting.ts'];
/** Judges of one room's pure core against others' data files, and simulated fleets: they see the insides as tests do. */
const seesInsides = (file: string) => topOf(file) === 'test' || /^scripts\/(conformance|simulation)/.test(file);
/** Parts of Node that only compute. */
const pureBuiltins = ['node:util'];
/** Files besides a room's index.ts that others may import: the front ends must start fast. */
const secondFaces = ['node/control/client.ts'];

/** Which folder alone uses a library; a pattern's first match counts. */
const libraryOwners: readonly [library: RegExp, owner: string][] = [
  [/^valibot$/, 'protocols'],
  [/^@ipld\/dag-cbor$/, 'protocols'],
  [/^(libp2p|@libp2p\/.*|@multiformats\/.*|it-.*|uint8arraylist)$/, 'node/mesh'],
  [/^classic-level$/, 'node/store'],
  [/^(execa|pino)$/, 'node/host'],
];

/** What must not stand in a source, what to do instead, and where it may. Written so that this list does not find itself. */
const banned: readonly [pattern: RegExp, instead: string, except?: RegExp][] = [
  [/\bTO[D]O\b|\bFIX[M]E\b|\bX[X]X\b|\bHA[C]K\b/, 'do it, or say it in the report'],
  [/\bas an[y]\s*([;,).\]]|$)/, 'use unknown and check'],
  [/@ts-(expect-error|ignor[e]|nocheck)|biome-ignor[e]/, 'mend the cause'],
  [/\bconsole\.(log|error|warn|debug)\(/, 'use the logger, or an Output', /^(scripts|test)\/|^node\/main\.ts$/],
  [
    /registry\.npm[j]s|npm[j]s\.(org|com)|deb\.debia[n]\.org|cache\.nixo[s]\.org/,
    'name no host of a registry or cache',
  ],
  [/\/(home|Users|root|work)\/[a-z0-9._-]+\//, 'name no folder of a machine'],
  [/^export defaul[t]/m, 'export names'],
  [/^\s*(export )?(const )?enu[m] /m, 'use an `as const` object'],
];
interface Import {
  readonly from: string;
  readonly specifier: string;
  readonly isType: boolean;
}

function importsOf({ file, text }: { file: string; text: string }): Import[] {
  const pattern = /^(?:import|export)\s+(type\s+)?(?:[^'";]*?\sfrom\s+)?'([^']+)'|\bimport\(\s*'([^']+)'/gm;
  return [...text.matchAll(pattern)].map((match) => {
    const specifier = match[2] ?? match[3] ?? '';
    const target = specifier.startsWith('.') ? path.join(path.dirname(file), specifier) : specifier;
    return { from: file, specifier: target, isType: match[1] !== undefined };
  });
}

const imports = sources.flatMap(importsOf);
const ours = imports.filter(({ specifier }) => !specifier.startsWith('node:') && specifier.endsWith('.ts'));
const topOf = (file: string) => file.split('/')[0] ?? '';
/** node/wiring is no room: it is the part of create-node.ts that does not fit into it. */
const roomOf = (file: string) =>
  /^node\/(?!wiring\/)[^/]+\//.test(file) ? file.split('/').slice(0, 2).join('/') : undefined;
const isPure = (file: string) => /^node\/(.*-(core|plan)\.ts|[^/]+\/core\/[^/]+\.ts)$/.test(file);

function none(problems: readonly string[]): void {
  assert.deepEqual(problems, []);
}

test('imports run one way: protocols, node, chatops and scripts, test', () => {
  const wrong = ours.filter(({ from, specifier }) => {
    const allowed = layers[topOf(from)];
    return allowed !== undefined && topOf(specifier) !== topOf(from) && !allowed.includes(topOf(specifier));
  });
  none(wrong.map(({ from, specifier }) => `${from} imports ${specifier}: move what it needs to a lower layer`));
});

test("rooms import no other room's files but types of its index.ts", () => {
  const wrong = ours.filter(({ from, specifier, isType }) => {
    const room = roomOf(from);
    if (room === undefined || !specifier.startsWith('node/') || roomOf(specifier) === room) return false;
    if (sharedByRooms.includes(specifier)) return false;
    return !(isType && specifier === `${roomOf(specifier)}/index.ts`);
  });
  none(wrong.map(({ from, specifier }) => `${from} imports ${specifier}: take it as a component instead`));
});

test('what is above the rooms enters them by their index.ts', () => {
  const wrong = ours.filter(({ from, specifier }) => {
    if (roomOf(specifier) === undefined || roomOf(from) !== undefined || seesInsides(from)) return false;
    return !specifier.endsWith('/index.ts') && !secondFaces.includes(specifier);
  });
  none(wrong.map(({ from, specifier }) => `${from} imports ${specifier}: import the room's index.ts`));
});

test('files of node/ outside rooms are the known few', () => {
  const known = [...joiners, ...sharedByRooms];
  const stray = files.filter((file) => /^node\/[^/]+$/.test(file) && !known.includes(file));
  none(stray.map((file) => `${file} belongs to no room: give it one`));
});

test('pure files import only protocols and pure files of their own room', () => {
  const wrong = imports.filter(({ from, specifier, isType }) => {
    if (!isPure(from) || topOf(specifier) === 'protocols' || pureBuiltins.includes(specifier)) return false;
    if (isPure(specifier) && roomOf(specifier) === roomOf(from)) return false;
    return !(isType && sharedByRooms.includes(specifier));
  });
  none(wrong.map(({ from, specifier }) => `${from} imports ${specifier}: pure files have no I/O, clock or chance`));
});

test('each library is used by the room that owns it', () => {
  const wrong = imports.flatMap(({ from, specifier }) => {
    const owner = libraryOwners.find(([library]) => library.test(specifier))?.[1];
    if (owner === undefined || from.startsWith(`${owner}/`) || topOf(from) === 'test') return [];
    return [`${from} imports ${specifier}: only ${owner} does`];
  });
  none(wrong);
});

test('every dependency has an owner', () => {
  const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> };
  const orphans = Object.keys(dependencies).filter((name) => !libraryOwners.some(([library]) => library.test(name)));
  none(orphans.map((name) => `${name} has no owner: add it to libraryOwners`));
});

test('files are short enough to read', () => {
  const long = sources.filter(({ text }) => text.split('\n').length - 1 > linesMax);
  none(long.map(({ file, text }) => `${file} has ${text.split('\n').length - 1} lines: split it below ${linesMax}`));
});

test('files open with what they own and why; tests say it by their names', () => {
  const wrong = sources.flatMap(({ file, text }) => {
    if (file.endsWith('.test.ts')) return [];
    const lines = text.split('\n');
    const start = lines[0]?.startsWith('#!') ? 1 : 0;
    const length = lines.slice(start).findIndex((line) => !line.startsWith('// '));
    return length >= 1 && length <= headerLinesMax ? [] : [`${file}: begin with 1 to ${headerLinesMax} comment lines`];
  });
  none(wrong);
});

test('names carry their pureness: no clock, chance or I/O in -core and -plan files and core folders', () => {
  const impure =
    /\b(Date\.now|new Date\(\)|Math\.random|performance\.now|process\.(env|cwd|pid)|setTimeout|setInterval)\b/;
  const wrong = sources.filter(({ file, text }) => isPure(file) && impure.test(text));
  none(wrong.map(({ file }) => `${file} reads a clock, chance or the process: take it as an argument`));
});

test('banned words stay out', () => {
  const wrong = sources.flatMap(({ file, text }) =>
    text
      .split('\n')
      .flatMap((line, index) =>
        banned
          .filter(([pattern, , except]) => pattern.test(line) && except?.test(file) !== true)
          .map(([, instead]) => `${file}:${index + 1} ${line.trim().slice(0, 80)}: ${instead}`),
      ),
  );
  none(wrong);
});

test('no file of a machine, a secret or a build lies in the repository', () => {
  const wrong = files.filter((file) =>
    /(^|\/)(\.npmrc|\.env|result|node_modules|\.DS_Store)$|\.(key|pem|log)$/.test(file),
  );
  none(wrong);
});
