// Owns the controls of a fleet in one process: three voters and two devices, each with its socket, a policy with one
// operator of each role, and what tests ask of the answers.

import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { connectControl } from '../../node/control/client.ts';
import { type Control, createControl } from '../../node/control/index.ts';
import type { Command, CommandEvent } from '../../protocols/control.ts';
import type { FlakeSpec } from './builders.ts';
import { FakeFleet } from './fleet.ts';
import { fastClock, revision } from './helpers.ts';

const policy = {
  hosts: { web1: { tags: ['web'] }, web2: { tags: ['web'] }, gone9: { tags: ['web'] } },
  operators: {
    dan: { roles: ['deployer'] },
    ann: { roles: ['approver'] },
    vera: { roles: ['viewer'] },
  },
};
export const flake: FlakeSpec = { hosts: ['web1', 'web2'], parley: policy };

export interface Rig {
  readonly fleet: FakeFleet;
  readonly controls: ReadonlyMap<string, Control>;
  readonly folder: string;
  /** Runs a command at a peer and returns its events. */
  ask(peer: string, command: Command, options?: AskOptions): Promise<CommandEvent[]>;
}

interface AskOptions {
  readonly speakAs?: string;
  readonly id?: string;
  readonly follow?: boolean;
  readonly workFolder?: string;
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: CommandEvent) => void;
}

let ids = 0;

export async function startRig(
  t: TestContext,
  options: { readonly times?: number; readonly flake?: FlakeSpec } = {},
): Promise<Rig> {
  const folder = await mkdtemp(join(tmpdir(), 'parley-control-'));
  const peers = [
    { name: 'hub', roles: ['member' as const, 'voter' as const, 'builder' as const] },
    { name: 'v2', roles: ['member' as const, 'voter' as const, 'builder' as const] },
    { name: 'v3', roles: ['member' as const, 'voter' as const] },
    { name: 'web1', roles: ['member' as const] },
    { name: 'web2', roles: ['member' as const] },
  ];
  const fleet = new FakeFleet(peers);
  if (options.times !== undefined) fleet.clock = fastClock(options.times);
  fleet.builders.flakes.set(revision(`commit of ${revision('/work')}`), options.flake ?? flake);
  const controls = new Map<string, Control>();
  for (const { name } of peers) {
    const init = { socketPath: join(folder, `${name}.sock`), name, speakAs: true, release: '0.1.0' };
    const control = createControl(init)(fleet.componentsOf(name));
    controls.set(name, control);
    await control.start();
  }
  fleet.onSwitched = (host) => controls.get(host)?.factsChanged();
  t.after(async () => {
    for (const control of controls.values()) await control.stop();
    await rm(folder, { recursive: true, force: true });
  });
  fleet.lead('hub');
  async function ask(peer: string, command: Command, given: AskOptions = {}): Promise<CommandEvent[]> {
    ids += 1;
    const { speakAs, workFolder, follow = true, id = `command-${ids}`, signal = t.signal } = given;
    const request = {
      version: 1 as const,
      id,
      command,
      follow,
      ...(speakAs === undefined ? {} : { speakAs }),
      ...(workFolder === undefined ? {} : { workFolder }),
    };
    const events: CommandEvent[] = [];
    for await (const event of connectControl(join(folder, `${peer}.sock`)).runCommand(request, { signal })) {
      events.push(event);
      given.onEvent?.(event);
    }
    return events;
  }
  return { fleet, controls, folder, ask };
}

export function endOf(events: readonly CommandEvent[]): Extract<CommandEvent, { kind: 'end' }> {
  const last = events.at(-1);
  assert.ok(last?.kind === 'end', `ended with ${JSON.stringify(last)}`);
  return last;
}

export function errorOf(events: readonly CommandEvent[]): { code: string; message: string; hint?: string | undefined } {
  const last = events.at(-1);
  assert.ok(last?.kind === 'error', `ended with ${JSON.stringify(last)}`);
  return last.error;
}

export function viewOf(events: readonly CommandEvent[], name: string): unknown {
  const found = events.findLast((event) => event.kind === 'view' && event.view === name);
  assert.ok(found?.kind === 'view', `no view '${name}' among ${events.map((event) => event.kind)}`);
  return found.data;
}

export const deployAll = { name: 'deploy', selector: '@all', keepGoing: false, commitMessage: null } as const;

/** The first commit, by root: its policy comes into force. */
export async function commitFirst(rig: Rig): Promise<void> {
  const events = await rig.ask('hub', { name: 'commit', message: 'first' }, { workFolder: '/work' });
  assert.equal(endOf(events).outcome, 'succeeded');
  await rig.fleet.until('the policy is in force', ({ policy: inForce }) => inForce !== null);
}
