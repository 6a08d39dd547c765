// Runs data files of other projects against ours, below a folder DIR:
//   node scripts/conformance.ts etcd-raft DIR [--json]     testdata, confchange/testdata and quorum/testdata of etcd/raft
//   node scripts/conformance.ts porcupine DIR [--json]     histories, and verdicts.txt
// Tells the differences, and prints figures; exits with 1 when something does not pass.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { runFolder, type Tally } from './conformance/datadriven.ts';
import { createChanges, createQuorums } from './conformance/etcd-cases.ts';
import { createInteraction } from './conformance/interaction.ts';
import { runPorcupine } from './conformance/porcupine.ts';
import { printFigures, readArguments, refuse, tell } from './lib/tool.ts';

/** All of etcd/raft's data files below `folder`, by kind; none of a kind whose folder is not there. */
export async function runEtcdRaft(folder: string): Promise<Record<'interaction' | 'confchange' | 'quorum', Tally>> {
  return {
    interaction: await runFolder(join(folder, 'testdata'), createInteraction),
    confchange: await runFolder(join(folder, 'confchange', 'testdata'), createChanges),
    quorum: await runFolder(join(folder, 'quorum', 'testdata'), createQuorums),
  };
}

async function judgeEtcdRaft(folder: string): Promise<void> {
  const tallies = Object.values(await runEtcdRaft(folder));
  const sum = (field: Exclude<keyof Tally, 'failures'>): number =>
    tallies.reduce((total, tally) => total + tally[field], 0);
  const failures = tallies.flatMap((tally) => tally.failures);
  for (const { file, line, expected, actual } of failures) {
    tell(`${file}:${line}\n--- expected\n${expected}\n--- actual\n${actual}\n`);
  }
  const [files, passedFiles] = [sum('files'), sum('passedFiles')];
  const [directives, passedDirectives] = [sum('directives'), sum('passedDirectives')];
  printFigures({ files, passedFiles, directives, passedDirectives });
  if (files === 0 || failures.length > 0) process.exitCode = 1;
}

async function judgePorcupine(folder: string): Promise<void> {
  const started = performance.now();
  const { histories, right, wrong } = await runPorcupine(folder);
  const durationMs = Math.round(performance.now() - started);
  for (const { file, expected, verdict } of wrong) tell(`${file}: ${verdict}, expected ${expected}`);
  printFigures({ histories, right, wrong: wrong.map(({ file }) => file), durationMs });
  if (histories === 0 || right !== histories) process.exitCode = 1;
}

const suites = [
  { name: 'etcd-raft', judge: judgeEtcdRaft, needs: ['testdata', 'confchange/testdata', 'quorum/testdata'] },
  { name: 'porcupine', judge: judgePorcupine, needs: ['verdicts.txt'] },
] as const;

async function main(): Promise<void> {
  const { positionals } = readArguments(import.meta.filename, { json: { type: 'boolean' } }, 'with words');
  const [name, folder, ...more] = positionals;
  const suite = suites.find((each) => each.name === name);
  if (suite === undefined || folder === undefined || more.length > 0) {
    refuse('a suite and one folder are needed', `Say ${suites.map((each) => `${each.name} DIR`).join(' or ')}.`);
  }
  const missing = suite.needs.filter((file) => !existsSync(join(folder, file)));
  if (missing.length === suite.needs.length) {
    refuse(`there is no ${missing.join(' or ')} in '${folder}'`, `Name the folder with the data of ${suite.name}.`);
  }
  for (const file of missing) tell(`there is no ${join(folder, file)}`);
  await suite.judge(folder);
}

if (import.meta.main) await main();
