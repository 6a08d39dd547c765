// The ledger room: every peer's replica of the replicated log's state. Entries come from consensus on voters and are
// pulled from voters elsewhere; the pure core derives the state, and the other rooms watch it.

export type {
  AppliedListener,
  CommittedEntry,
  Ledger,
  LedgerComponents,
  LedgerConsensus,
  LedgerInit,
  LedgerSnapshot,
  MeshMembersView,
  ProposeResult,
  RaftMembersView,
} from './ledger-types.ts';
