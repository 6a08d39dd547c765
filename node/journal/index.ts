// The journal room: this peer's own signed, hash-chained reports and its task logs, how others pull them, and how it pulls
// and verifies theirs.

export { createJournal } from './journal.ts';
export type {
  Journal,
  JournalComponents,
  JournalInit,
  LogInput,
  PullRequest,
  ReadLogsRequest,
  TaskLog,
} from './journal-types.ts';
