// Owns the making of views from the ledger's state and what this peer knows about who is there: status and peers. Pure.

import type { Beat } from '../../protocols/beat.ts';
import { memberNamed, votersWarning, votingMembers } from '../../protocols/ledger-rules.ts';
import type { LedgerState, Member, Order, Reason, Task } from '../../protocols/ledger-state.ts';
import type { PeerView, StatusView } from '../../protocols/views.ts';

/** What a peer knows beside the ledger's state. */
export interface ViewFacts {
  /** Peer id of the controller; null while there is none. */
  readonly controller: string | null;
  /** False when the answer is only what this peer last knew. */
  readonly current: boolean;
  readonly presence: (peer: string) => {
    readonly online: boolean;
    readonly lastSeenMs: number | null;
    readonly beat: Beat | null;
  };
  /** What the controller's jobs for a task are waiting for. */
  readonly waits: (task: string) => Reason | undefined;
  /** How far the controller's job for a task is. */
  readonly progress: (task: string) => JobProgress | undefined;
}

export interface JobProgress {
  readonly text: string;
  readonly done: number;
  readonly total: number;
}

export function statusView(state: LedgerState, facts: ViewFacts): StatusView {
  const peers = peerViews(state, facts);
  return {
    version: 1,
    fleet: state.fleet,
    controller: facts.controller === null ? null : (state.members[facts.controller]?.name ?? null),
    term: state.term,
    ledgerIndex: state.index,
    ledgerTimeMs: state.timeMs,
    current: facts.current,
    head: state.head,
    draftFiles: state.draft?.fileCount ?? 0,
    policyRevision: state.policy?.revision ?? null,
    peers,
    hostsWithoutPeer: Object.keys(state.policy?.hosts ?? {})
      .filter((host) => memberNamed(state, host) === undefined)
      .sort(),
    waiting: Object.values(state.tasks).flatMap((task) => {
      const reason = task.endedAtMs === null ? waitReason(task, state, facts) : null;
      return reason === null ? [] : [{ task: task.id, reason }];
    }),
    warnings: [votersWarning(votingMembers(state).length), ...troubleWarnings(peers)].filter(
      (text) => text !== undefined,
    ),
  };
}

/** Which of these peers cannot work, and why. */
export function troubleWarnings(peers: readonly Pick<PeerView, 'name' | 'trouble'>[]): string[] {
  return peers.flatMap(({ name, trouble }) => (trouble ? [`${name} is held up: ${trouble}`] : []));
}

/** Every member, sorted by name. */
export function peerViews(state: LedgerState, facts: ViewFacts): PeerView[] {
  const members = Object.values(state.members).sort((a, b) => (a.name < b.name ? -1 : 1));
  return members.map((member) => peerView(member, state, facts));
}

function peerView(member: Member, state: LedgerState, facts: ViewFacts): PeerView {
  const { online, lastSeenMs, beat } = facts.presence(member.peer);
  const device = state.devices[member.name];
  const order = state.orders[member.name];
  const running = (online ? beat?.running : undefined) ?? device?.running ?? null;
  return {
    name: member.name,
    peer: member.peer,
    site: member.site,
    roles: member.roles,
    online,
    controller: member.peer === facts.controller,
    running,
    booted: (online ? beat?.booted : undefined) ?? device?.booted ?? null,
    desired: order === undefined || isVoid(order) ? null : order.closure,
    commit: running === null ? null : commitOf(member.name, running, state),
    outcome: device?.outcome ?? null,
    reason: device?.alarm ?? order?.reason ?? null,
    alarmed: device?.alarm !== undefined,
    lastSeenMs,
    ledgerIndex: beat?.ledgerIndex ?? null,
    activity: online && !hasEnded(beat, order) ? activityText(beat) : null,
    trouble: (online ? beat?.trouble : undefined) ?? null,
    bytesBySite: beat?.traffic ?? {},
  };
}

/** A cancelled order is no target, unless the device was past the point of no return. */
function isVoid({ cancelled, outcome }: Order): boolean {
  return cancelled && (outcome === null || outcome === 'cancelled');
}

/** The commit that a host's running closure was built from, where the ledger knows it. */
export function commitOf(host: string, running: string, state: LedgerState): string | null {
  const ran = state.devices[host]?.ran.find(({ closure }) => closure === running);
  if (ran !== undefined) return ran.revision;
  const order = state.orders[host];
  return order?.closure === running ? order.revision : null;
}

/** Why an open task does not go on; null while it does. */
export function waitReason(task: Task, state: LedgerState, facts: ViewFacts): Reason | null {
  return facts.waits(task.id) ?? offlineReason(task, state, facts) ?? task.reason;
}

function offlineReason(task: Task, state: LedgerState, facts: ViewFacts): Reason | undefined {
  if (task.host === null || task.order === null || task.endedAtMs !== null) return undefined;
  const member = memberNamed(state, task.host);
  const presence = member === undefined ? undefined : facts.presence(member.peer);
  if (presence?.online) return undefined;
  const lastSeenMs = presence?.lastSeenMs ?? state.devices[task.host]?.reportedAtMs ?? null;
  const since = lastSeenMs === null ? 'not seen yet' : `offline since ${new Date(lastSeenMs).toISOString()}`;
  return { kind: 'device', text: `${task.host}: ${since}; gets the current target when it returns` };
}

/** The report of an order's end may come before the next beat: what the last one said the device does is over by then. */
function hasEnded(beat: Beat | null, order: Order | undefined): boolean {
  return order !== undefined && order.outcome !== null && beat?.activity?.order === order.number;
}

function activityText(beat: Beat | null): string | null {
  const activity = beat?.activity;
  if (!activity) return null;
  const percent = activity.bytesTotal > 0 ? ` ${Math.floor((100 * activity.bytesDone) / activity.bytesTotal)} %` : '';
  return activity.text === '' ? `${activity.state}${percent}` : `${activity.state}${percent}: ${activity.text}`;
}
