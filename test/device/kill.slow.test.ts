// Shows that a device whose process is killed in the middle of a real switch takes the switch down with it, and that its next
// process goes back before `confirmed` and finishes from it on.

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readlink } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import type { Report } from '../../protocols/journal.ts';
import { becomeCurrent, makeWorkshop, runner, switchProgram, type Workshop } from './toplevels.ts';

const program = path.join(import.meta.dirname, '../fixtures/device-process.ts');

interface DeviceProcess {
  readonly child: ChildProcess;
  /** Resolves with the first report, from now on, that fits. */
  report(fits: (report: Report) => boolean): Promise<Report>;
}

function startDevice(t: TestContext, workshop: Workshop, number: number, closure: string): DeviceProcess {
  const child = spawn(process.execPath, [program, workshop.folder, String(number), closure], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  assert.ok(child.stdout !== null);
  const lines = createInterface(child.stdout);
  return {
    child,
    report(fits) {
      const { promise, resolve } = Promise.withResolvers<Report>();
      const take = (line: string) => {
        const report: Report = JSON.parse(line);
        if (!fits(report)) return;
        lines.off('line', take);
        resolve(report);
      };
      lines.on('line', take);
      return promise;
    },
  };
}

async function end(device: DeviceProcess): Promise<Report> {
  return await device.report(({ kind }) => kind === 'order-ended');
}

async function stop({ child }: DeviceProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  const exited = once(child, 'exit');
  child.kill(signal);
  await exited;
}

async function isSleeping(mark: string): Promise<boolean> {
  const { stdout } = await runner.run({ program: 'ps', arguments: ['-eo', 'args'] });
  return Buffer.from(stdout).toString('utf8').includes(`sleep ${mark}`);
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await wait(20);
}

/** A device that runs an old system; the new one sleeps for `mark` seconds in the given action, once. */
async function begin(t: TestContext, slowAction: 'test' | 'boot') {
  const workshop = await makeWorkshop(t);
  const mark = String(100_000 + Math.floor(Math.random() * 800_000));
  const sleepOnce = `[ "$1" != ${slowAction} ] || [ -e /var/slept ] || { : > /var/slept; $busybox sleep ${mark}; }`;
  const old = await workshop.addToplevel(switchProgram(`[ "$1" != test ] || ${becomeCurrent}`, 'echo old'));
  const fresh = await workshop.addToplevel(switchProgram(`[ "$1" != test ] || ${becomeCurrent}`, sleepOnce));
  const first = startDevice(t, workshop, 7, old);
  const ended = await end(first);
  assert.ok(ended.kind === 'order-ended' && ended.body.outcome === 'succeeded');
  await stop(first, 'SIGTERM');
  const device = startDevice(t, workshop, 8, fresh);
  await until(() => isSleeping(mark));
  const running = () => readlink(path.join(workshop.rootFolder, 'run/current-system'));
  assert.equal(await running(), fresh);
  await stop(device, 'SIGKILL');
  await until(async () => !(await isSleeping(mark)));
  return { workshop, old, fresh, running };
}

test('a device that is killed during the switch goes back when it returns', { timeout: 120_000 }, async (t) => {
  const { workshop, old, fresh, running } = await begin(t, 'test');
  const device = startDevice(t, workshop, 8, fresh);
  const report = await end(device);
  assert.ok(report.kind === 'order-ended');
  assert.equal(report.body.outcome, 'rolled-back');
  assert.match(report.body.reason ?? '', /the peer was interrupted while the order was 'testing'/);
  assert.deepEqual([report.running, await running()], [old, old]);
  assert.equal(await workshop.nix.readProfile(path.join(workshop.rootFolder, 'profiles/system')), old);
  await stop(device, 'SIGTERM');
});

test('a device that is killed after the confirmation finishes when it returns', { timeout: 120_000 }, async (t) => {
  const { workshop, fresh, running } = await begin(t, 'boot');
  const device = startDevice(t, workshop, 8, fresh);
  const report = await end(device);
  assert.ok(report.kind === 'order-ended');
  assert.equal(report.body.outcome, 'succeeded');
  assert.deepEqual([report.running, await running()], [fresh, fresh]);
  assert.equal(await workshop.nix.readProfile(path.join(workshop.rootFolder, 'profiles/system')), fresh);
  await stop(device, 'SIGTERM');
});
