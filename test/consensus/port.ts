// The core of @coaty/consensus.raft, etcd/raft of October 2021 in TypeScript, as one node of a lockstep pair. Only its folder
// `ported` is loaded: the controller that it imports for one constant would bring a database and a message bus with it.

import { createRequire, registerHooks } from 'node:module';
import type * as LoggerModule from '@coaty/consensus.raft/ported/logger.js';
import type * as RaftModule from '@coaty/consensus.raft/ported/raft.js';
import type * as RecordsModule from '@coaty/consensus.raft/ported/raftpb/raft.pb.js';
import type * as RawNodeModule from '@coaty/consensus.raft/ported/rawnode.js';
import type * as StorageModule from '@coaty/consensus.raft/ported/storage.js';
import type { LockstepNode, NodeState, Wire, WireType } from './lockstep.ts';

const controllerUrl = 'parley-test:raft-controller';
registerHooks({
  resolve: (specifier, context, next) =>
    specifier.endsWith('non-ported/raft-controller')
      ? { url: controllerUrl, shortCircuit: true }
      : next(specifier, context),
  load: (url, context, next) =>
    url === controllerUrl
      ? { format: 'commonjs', source: 'exports.emptyRaftData = null;', shortCircuit: true }
      : next(url, context),
});
const load = createRequire(import.meta.url);
const records = load('@coaty/consensus.raft/ported/raftpb/raft.pb.js') as typeof RecordsModule;
const { RawNode } = load('@coaty/consensus.raft/ported/rawnode.js') as typeof RawNodeModule;
const { MemoryStorage } = load('@coaty/consensus.raft/ported/storage.js') as typeof StorageModule;
const { RaftConfig } = load('@coaty/consensus.raft/ported/raft.js') as typeof RaftModule;
const { discardLogger } = load('@coaty/consensus.raft/ported/logger.js') as typeof LoggerModule;
const { MessageType } = records;

const typeNames: readonly [number, WireType][] = [
  [MessageType.MsgProp, 'propose'],
  [MessageType.MsgApp, 'append'],
  [MessageType.MsgAppResp, 'append-response'],
  [MessageType.MsgVote, 'vote'],
  [MessageType.MsgVoteResp, 'vote-response'],
  [MessageType.MsgHeartbeat, 'heartbeat'],
  [MessageType.MsgHeartbeatResp, 'heartbeat-response'],
  [MessageType.MsgTransferLeader, 'transfer-leader'],
  [MessageType.MsgTimeoutNow, 'timeout-now'],
  [MessageType.MsgPreVote, 'pre-vote'],
  [MessageType.MsgPreVoteResp, 'pre-vote-response'],
];
const nameOf = new Map(typeNames);
const numberOf = new Map(typeNames.map(([number, name]) => [name, number]));
const transferContext = 'CampaignTransfer';
const roles = ['follower', 'candidate', 'leader', 'pre-candidate'];

export interface PortOptions {
  readonly raftId: number;
  readonly size: number;
  readonly electionTicks: number;
  readonly inflightMessagesMax: number;
  readonly preVote: boolean;
  readonly checkQuorum: boolean;
  /** Added to the election ticks each time. */
  readonly extraTicks: number;
}

export function createPortNode(options: PortOptions): LockstepNode {
  const disk = MemoryStorage.NewMemoryStorage();
  disk.snapshot.metadata.confState.voters = Array.from({ length: options.size }, (_, at) => String(at + 1));
  let node = boot();
  let applied: string[] = [];

  function boot() {
    const { raftId, electionTicks, inflightMessagesMax, preVote, checkQuorum, extraTicks } = options;
    const config = new RaftConfig({
      ...{ id: String(raftId), electionTick: electionTicks, heartbeatTick: 1, storage: disk },
      ...{ maxSizePerMsg: Number.MAX_SAFE_INTEGER, maxCommittedSizePerReady: Number.MAX_SAFE_INTEGER },
      ...{ maxInflightMsgs: inflightMessagesMax, preVote, checkQuorum, logger: discardLogger },
    });
    const created = RawNode.NewRawNode(config);
    created.raft.resetRandomizedElectionTimeout = () => {
      created.raft.randomizedElectionTimeout = electionTicks + extraTicks;
    };
    created.raft.resetRandomizedElectionTimeout();
    return created;
  }

  return {
    tick: () => node.tick(),
    campaign: () => void node.campaign(),
    propose: (text) => void node.propose(text),
    transfer: (to) => node.transferLeader(String(to)),
    step: (wire) => void node.step(toPort(wire)),
    restart() {
      node = boot();
      applied = [];
    },
    pump() {
      const sent: Wire[] = [];
      while (node.hasReady()) {
        const ready = node.ready();
        if (!ready.hardState.isEmptyHardState()) disk.SetHardState(ready.hardState);
        disk.Append(ready.entries);
        sent.push(...ready.messages.map(fromPort));
        applied.push(...ready.committedEntries.map(({ term, data }) => `${term} ${data ?? ''}`));
        node.advance(ready);
      }
      return sent;
    },
    state(): NodeState {
      const { term, vote, lead, state, raftLog } = node.raft;
      const log = raftLog.allEntries().map((entry) => `${entry.term} ${entry.data ?? ''}`);
      const { committed } = raftLog;
      return { term, vote: Number(vote), role: roles[state] ?? '', leader: Number(lead), committed, log, applied };
    },
  };
}

function fromPort(message: RecordsModule.Message): Wire {
  const { from, to, term, index, logTerm, commit, reject, rejectHint, context, entries } = message;
  return {
    ...{ type: nameOf.get(message.type) ?? 'unknown', from: Number(from), to: Number(to) },
    ...{ term, index, logTerm, commit, reject, rejectHint, isTransfer: context === transferContext },
    entries: entries.map((entry) => ({ index: entry.index, term: entry.term, text: entry.data ?? '' })),
  };
}

function toPort({ type, from, to, entries, isTransfer, ...fields }: Wire): RecordsModule.Message {
  const number = numberOf.get(type);
  if (number === undefined) throw new Error(`no message type '${type}'`);
  return new records.Message({
    ...fields,
    ...{ type: number, from: String(from), to: String(to), context: isTransfer ? transferContext : null },
    entries: entries.map(
      ({ index, term, text }) => new records.Entry({ index, term, data: text === '' ? null : text }),
    ),
  });
}
