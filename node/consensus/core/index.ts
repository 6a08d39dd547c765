// The core: one raft node as a pure state machine. No I/O, clock or chance: ticks, messages and a seeded source come from
// outside, work goes out as Ready. README.md beside this file lists the caller's duties in their order.

export { configurationOf } from './configuration.ts';
export { ConfigurationHistory } from './configuration-history.ts';
export { LogWindow } from './log-window.ts';
export {
  appendThread,
  applyThread,
  entriesBytes,
  entryOverheadBytes,
  type HardState,
  invariant,
  limitEntries,
  type Message,
  makeMessage,
  nobody,
  type Position,
  type StableLog,
} from './message.ts';
export { voterIds } from './quorum.ts';
export type { RaftOptions, RaftRole, ReadState } from './raft.ts';
export { RawNode, type RawStatus, type Ready, type Refusal } from './raw-node.ts';
