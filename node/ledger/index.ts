// The ledger room: every peer's replica of the replicated log's state. Entries come from consensus on voters and are
// pulled from voters elsewhere; the pure core derives the state, and the other rooms watch it.

export { createGenesis, type Genesis, readGenesis } from './genesis-core.ts';
export { createLedger } from './ledger.ts';
export type * from './ledger-types.ts';
export { snapshotOf, stateOf } from './snapshots.ts';
