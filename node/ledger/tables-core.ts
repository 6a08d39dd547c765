// Owns which fields of the state are tables, and changing them. A table that was handed out never changes: the first change
// of a batch of entries copies it, the others go into that copy, since copying thousands of records for each entry would keep
// a core busy. An entry that is refused half-way leaves no trace.

import type { LedgerState } from '../../protocols/ledger-state.ts';

const tableNames = ['members', 'invites', 'tasks', 'plans', 'orders', 'devices', 'commands'] as const;
type TableName = (typeof tableNames)[number];
type RecordOf<T extends TableName> = LedgerState[T][string];
type Table = Record<string, object>;

interface Change {
  readonly table: Table;
  readonly key: string;
  readonly before: object | undefined;
}

/** Whether a field of the state is a table of records. */
export const isTableName = (name: string): name is TableName => (tableNames as readonly string[]).includes(name);

/** Tables that were copied since the batch began; nobody else has seen them. */
let copied = new WeakSet<object>();
/** What the present entry changed in them. */
let changes: Change[] = [];

/** From here on, no table of a state that exists now is changed in place. */
export function beginBatch(): void {
  copied = new WeakSet();
  changes = [];
}

/** What was changed before is settled: undoEntry() goes back to here. */
export function beginEntry(): void {
  changes = [];
}

/** Takes back what the present entry changed in place; states that it made are invalid from here on. */
export function undoEntry(): void {
  for (const { table, key, before } of changes.reverse()) {
    if (before === undefined) delete table[key];
    else table[key] = before;
  }
  changes = [];
}

/** A state with one record put into a table. The given state must not be used any more. */
export function putRecord<T extends TableName>(
  state: LedgerState,
  name: T,
  key: string,
  record: RecordOf<T>,
): LedgerState {
  const table = ownTable(state, name);
  changes.push({ table, key, before: table[key] });
  table[key] = record;
  return { ...state, [name]: table };
}

/** A state without these records of a table. The given state must not be used any more. */
export function dropRecords(state: LedgerState, name: TableName, keys: Iterable<string>): LedgerState {
  const table = ownTable(state, name);
  for (const key of keys) {
    changes.push({ table, key, before: table[key] });
    delete table[key];
  }
  return { ...state, [name]: table };
}

function ownTable(state: LedgerState, name: TableName): Table {
  const table: Table = state[name];
  if (copied.has(table)) return table;
  const copy = { ...table };
  copied.add(copy);
  return copy;
}
