// Runs data files of other projects against ours: `node scripts/conformance.ts etcd-raft|porcupine DIR [--json]`.
// Prints figures, and without --json the differences; exits with 1 when something does not pass.

import { join } from 'node:path';
import { runFolder, type Tally } from './conformance/datadriven.ts';
import { createChanges, createQuorums } from './conformance/etcd-cases.ts';
import { createInteraction } from './conformance/interaction.ts';
import { runPorcupine } from './conformance/porcupine.ts';

/** All of etcd/raft's data files below `folder`, by kind. */
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
  if (!process.argv.includes('--json')) {
    for (const { file, line, expected, actual } of failures) {
      console.log(`${file}:${line}\n--- expected\n${expected}\n--- actual\n${actual}\n`);
    }
  }
  const [files, passedFiles] = [sum('files'), sum('passedFiles')];
  const [directives, passedDirectives] = [sum('directives'), sum('passedDirectives')];
  console.log(JSON.stringify({ files, passedFiles, directives, passedDirectives }));
  if (passedDirectives !== directives) process.exitCode = 1;
}

async function judgePorcupine(folder: string): Promise<void> {
  const started = performance.now();
  const { histories, right, wrong } = await runPorcupine(folder);
  const durationMs = Math.round(performance.now() - started);
  if (!process.argv.includes('--json')) {
    for (const { file, expected, verdict } of wrong) console.log(`${file}: ${verdict}, expected ${expected}`);
  }
  console.log(JSON.stringify({ histories, right, wrong: wrong.map(({ file }) => file), durationMs }));
  if (right !== histories) process.exitCode = 1;
}

async function main(): Promise<void> {
  const suites = new Map([
    ['etcd-raft', judgeEtcdRaft],
    ['porcupine', judgePorcupine],
  ]);
  const [suite, folder] = process.argv.slice(2).filter((argument) => argument !== '--json');
  const run = suites.get(suite ?? '');
  if (run === undefined || folder === undefined) {
    console.error(`usage: node scripts/conformance.ts ${[...suites.keys()].join('|')} DIR [--json]`);
    process.exitCode = 2;
    return;
  }
  await run(folder);
}

if (import.meta.main) await main();
