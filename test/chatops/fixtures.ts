// Owns what the tests of the front ends share: views of a small fleet, a peer's local socket with scripted answers, and an
// output that collects lines.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { type Attachment, createAttachment } from '../../chatops/attachment.ts';
import { plainPaint } from '../../chatops/paint.ts';
import type { Output, RunContext } from '../../chatops/run-command.ts';
import { connectControl, controlSocketPath } from '../../node/control/client.ts';
import { createControlSocket } from '../../node/control/socket.ts';
import { createLogger, systemClock } from '../../node/host/index.ts';
import type { CommandEvent, CommandRequest } from '../../protocols/control.ts';
import type { PeerView, PlanView, StatusView, TaskDetail, TaskView, VotersView } from '../../protocols/views.ts';

export const nowMs = Date.UTC(2026, 10, 20, 12, 0, 0);
export const revision = '1a2b3c4d'.repeat(5);
export const hash = '0f'.repeat(32);
export const storePath = (letter: string, name: string) => `/nix/store/${letter.repeat(32)}-${name}`;

export function peerView(view: Partial<PeerView> = {}): PeerView {
  return {
    name: 'home-gate',
    peer: '12D3KooWFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake',
    site: 'home',
    roles: ['voter', 'builder'],
    online: true,
    controller: true,
    running: storePath('a', 'home-gate'),
    booted: storePath('a', 'home-gate'),
    desired: storePath('a', 'home-gate'),
    commit: revision,
    outcome: 'succeeded',
    alarmed: false,
    reason: null,
    lastSeenMs: nowMs,
    ledgerIndex: 12,
    activity: null,
    bytesBySite: { home: { bytesIn: 2048, bytesOut: 0 } },
    ...view,
  };
}

export function statusView(view: Partial<StatusView> = {}): StatusView {
  return {
    version: 1,
    fleet: hash,
    controller: 'home-gate',
    term: 3,
    ledgerIndex: 12,
    ledgerTimeMs: nowMs,
    current: true,
    head: revision,
    draftFiles: 0,
    policyRevision: revision,
    peers: [peerView()],
    hostsWithoutPeer: [],
    waiting: [],
    ...view,
  };
}

export function votersView(view: Partial<VotersView> = {}): VotersView {
  const gate = {
    ...{ name: 'gate', peer: peerView().peer, raftId: 1, standing: 'votes' as const, controller: true },
    ...{ online: true, caughtUp: true, ledgerIndex: 12, lastSeenMs: nowMs },
  };
  const hall = {
    ...{ ...gate, name: 'hall', raftId: 2, standing: 'joining' as const, controller: false },
    ...{ online: false, caughtUp: false, ledgerIndex: 4, lastSeenMs: nowMs - 3 * 60_000 },
  };
  return {
    ...{ version: 1, current: true, voters: [gate, hall], majority: 1, spare: 0, warnings: [] },
    change: { text: 'hall is to vote', waitsFor: 'hall, which is away' },
    ...view,
  };
}

export function taskView(view: Partial<TaskView> = {}): TaskView {
  return {
    id: 't3',
    type: 'deploy',
    status: 'running',
    outcome: null,
    reason: null,
    parent: null,
    children: [],
    actor: 'alice',
    attempt: 1,
    stage: 'build',
    selector: '@all',
    hosts: ['home-gate', 'shop-till'],
    host: null,
    revision,
    plan: null,
    closure: null,
    failedUnits: [],
    simulated: false,
    submittedAtMs: nowMs - 60_000,
    startedAtMs: nowMs - 60_000,
    endedAtMs: null,
    progress: { done: 1, total: 2, unit: 'parts', text: 'building' },
    ...view,
  };
}

export function planView(view: Partial<PlanView> = {}): PlanView {
  return {
    plan: hash,
    needsApproval: true,
    approved: false,
    rejected: false,
    changesPolicy: false,
    author: 'alice',
    mayApprove: ['bob', 'carol'],
    approvals: [],
    hosts: [
      { host: 'home-gate', before: storePath('a', 'home-gate'), closure: storePath('b', 'home-gate') },
      { host: 'shop-till', before: null, closure: storePath('c', 'shop-till') },
    ],
    leftOut: [{ host: 'shop-cam', reason: 'evaluation failed: attribute missing' }],
    closures: [
      {
        closure: storePath('b', 'home-gate'),
        pathCount: 42,
        narBytes: 36 * 1024 * 1024,
        changes: [
          { name: 'caddy', before: ['2.7'], after: ['2.8'] },
          { name: 'fresh', before: [], after: ['1'] },
          { name: 'old', before: ['9'], after: [] },
        ],
        changesLeftOut: 2,
      },
    ],
    ...view,
  };
}

export function taskDetail(detail: Partial<TaskDetail> = {}): TaskDetail {
  return { version: 1, task: taskView(), children: [], plan: null, processes: [], messages: [], ...detail };
}

export const endEvent = (end: Partial<Extract<CommandEvent, { kind: 'end' }>> = {}): CommandEvent => ({
  kind: 'end',
  outcome: 'succeeded',
  task: null,
  waitsFor: null,
  text: '',
  revision: null,
  ...end,
});

export type Answer = (request: CommandRequest, signal: AbortSignal) => AsyncIterable<CommandEvent>;

/** Answers each command with these events. */
export const answering = (...events: readonly CommandEvent[]): Answer =>
  async function* () {
    yield* events;
  };

export interface FakePeer {
  readonly stateFolder: string;
  readonly socket: string;
  readonly requests: CommandRequest[];
  stop(): Promise<void>;
}

/** A real local socket whose commands are carried out by `answer`. Gone after the test. */
export async function startFakePeer(t: TestContext, answer: Answer): Promise<FakePeer> {
  const stateFolder = await mkdtemp(path.join(tmpdir(), 'parley-chatops-'));
  const socket = controlSocketPath(stateFolder);
  const requests: CommandRequest[] = [];
  const server = createControlSocket({ path: socket })({
    logger: createLogger({ level: 'silent' }),
    clock: systemClock,
    run: (request, signal) => {
      requests.push(request);
      return answer(request, signal);
    },
  });
  await server.start();
  t.after(async () => {
    await server.stop();
    await rm(stateFolder, { recursive: true, force: true });
  });
  return { stateFolder, socket, requests, stop: () => server.stop() };
}

export interface CollectedOutput extends Output {
  readonly outLines: string[];
  readonly errLines: string[];
  readonly progress: string[];
}

export function collectOutput(): CollectedOutput {
  const outLines: string[] = [];
  const errLines: string[] = [];
  const progress: string[] = [];
  return {
    outLines,
    errLines,
    progress,
    out: (line) => void outLines.push(line),
    err: (line) => void errLines.push(line),
    live: { update: (text) => void progress.push(text), clear() {} },
    paint: plainPaint,
  };
}

export function attachTo(sockets: readonly string[], patienceMs = 0): Attachment {
  return createAttachment({ sockets: () => sockets, patienceMs })({ connect: connectControl, clock: systemClock });
}

export function runContextOf(attachment: Attachment, output: Output, context: Partial<RunContext> = {}): RunContext {
  return {
    attachment,
    output,
    nowMs: () => nowMs,
    signal: new AbortController().signal,
    speakAs: undefined,
    workFolder: undefined,
    ...context,
  };
}
