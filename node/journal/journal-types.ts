// Owns the public shape of the journal room. Types only, so that the room's files and its neighbours agree on them.

import type { Report, ReportDraft } from '../../protocols/journal.ts';
import type { ProgramRun } from '../../protocols/program-run.ts';
import type { LogLine } from '../../protocols/views.ts';
import type { Clock, KeyValueStore, Logger, Mesh, Startable, StoreOperation } from '../interfaces.ts';

export interface JournalInit {
  /** Peer id of this peer. */
  readonly self: string;
  /** Its name, which its log lines carry. */
  readonly name: string;
  /**
   * A file beside the database, synced after each report. A database that is behind it was restored or lost, and gets a
   * new incarnation.
   */
  readonly markerFile: string;
}

export interface JournalComponents {
  readonly store: KeyValueStore;
  readonly identity: { sign(bytes: Uint8Array): Uint8Array };
  readonly verifySignature: (peer: string, bytes: Uint8Array, signature: Uint8Array) => boolean;
  readonly mesh: Pick<Mesh, 'handle' | 'open'>;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface PullRequest {
  readonly peer: string;
  /** Of the newest report that the caller has; 0 for none. */
  readonly incarnation: number;
  /** The first sequence number wanted, at least 1. */
  readonly from: number;
  readonly signal: AbortSignal;
}

export interface ReadLogsRequest {
  readonly peer: string;
  readonly task: string;
  /** Stay until the log ends. */
  readonly follow: boolean;
  readonly signal: AbortSignal;
}

/** A line as its program wrote it. Never hand in environments, keys or tokens: logs are shown to everybody who may read. */
export interface LogInput {
  readonly stream: LogLine['stream'];
  readonly level: LogLine['level'];
  readonly text: string;
  readonly program?: ProgramRun | undefined;
}

/** The log of one task on this peer. */
export interface TaskLog {
  /** Takes lines at once and writes them soon; a log over its limit keeps its beginning and its end. */
  append(lines: readonly LogInput[]): void;
  /** Ends the log for those who follow it; a later append opens it again. */
  end(): void;
}

export interface Journal extends Startable {
  /** This journal's incarnation. @throws ParleyError `not-started` before `start` has resolved, as the two below. */
  incarnation(): number;
  /** Sequence number of the last report on disk; 0 for none. */
  lastSequence(): number;
  /**
   * Appends a report, on disk when it resolves. `alongside` are operations on the same database that take effect with it
   * or not at all.
   */
  append(draft: ReportDraft, alongside?: readonly StoreOperation[]): Promise<Report>;
  /** Called with each report once it is on disk. */
  onAppended(listener: (report: Report) => void): () => void;
  /** This peer's reports from a sequence number on, in order. */
  read(from: number, limit: number): Promise<Report[]>;
  /**
   * What the ledger knows of this journal: reports before it are forgotten. When the ledger knows more than the disk, the
   * disk was restored, and a new incarnation starts. Never rejects; before `start` it is kept until then.
   */
  acknowledge(known: { readonly incarnation: number; readonly sequence: number }): Promise<void>;
  /**
   * One page of another peer's reports, contiguous, of one incarnation, signed by it and chained to what was pulled before;
   * they may belong to a newer incarnation than asked for. Empty when there is nothing new.
   * @throws ParleyError `journal-forked` when the peer told two stories, `malformed`, or what the mesh throws.
   */
  pull(request: PullRequest): Promise<Report[]>;
  taskLog(task: string): TaskLog;
  /** The lines of a task's log on a peer (this one included) as they come. @throws what the mesh throws. */
  readLogs(request: ReadLogsRequest): AsyncIterable<LogLine>;
}
