// Owns what this room needs of its neighbours, as narrow as it uses them, and the types that its own files share.

import type {
  BuildProgress,
  BuildRequest,
  BuildResult,
  EvaluateRequest,
  Evaluation,
  UpdateRequest,
  UpdateResult,
} from '../../protocols/build-job.ts';
import type { ErrorRecord } from '../../protocols/errors.ts';
import type { Report } from '../../protocols/journal.ts';
import type { EntryDraft } from '../../protocols/ledger-entries.ts';
import type { CommandResult, CommitIntent, LedgerState } from '../../protocols/ledger-state.ts';
import type { ClosureChange } from '../../protocols/plan.ts';
import type { LogLine } from '../../protocols/views.ts';
import type { BlobStore, Clock, Logger, Mesh, RandomBytes } from '../interfaces.ts';
import type { BeatFacts } from './beats.ts';
import type { VoterChange, VoterFacts } from './voters-core.ts';

interface Waiting {
  readonly signal: AbortSignal;
}

export interface ControlLedger {
  state(): LedgerState;
  onApplied(listener: (state: LedgerState) => void): () => void;
  waitFor(predicate: (state: LedgerState) => boolean, signal: AbortSignal): Promise<LedgerState>;
  propose(draft: EntryDraft, options: Waiting): Promise<{ readonly index: number; readonly result: CommandResult }>;
  fetchBlob(hash: string, options: Waiting): Promise<Uint8Array>;
  replicateBlob(hash: string, options: Waiting): Promise<void>;
  genesis(): Uint8Array;
  /** What the controller is to propose next about checkpoints. */
  checkpointDue(): EntryDraft | undefined;
}

/** What this peer knows about who leads. */
export interface Leadership {
  /** Peer id of the controller; null while this peer knows of none. */
  controller(): string | null;
  /** True while this peer leads and has applied every entry of earlier terms. */
  leads(): boolean;
  /** What keeps this peer from its work as a voter. */
  failure(): ErrorRecord | undefined;
  /** Called when any of these may have changed. */
  onChange(listener: () => void): () => void;
  /**
   * Resolves once this peer's state holds everything that was committed before the call.
   * @throws ParleyError `not-controller` (retryable) where a majority does not say so.
   */
  confirm(options: Waiting): Promise<void>;
}

/** Only on voters. */
export interface ControlVoters {
  facts(): Omit<VoterFacts, 'lacking'>;
  /** Called with each new certificate. */
  onCertified(listener: () => void): () => void;
  changeVoters(change: VoterChange, options: Waiting): Promise<void>;
}

interface TreeFile {
  readonly path: string;
  readonly change: 'added' | 'modified' | 'deleted';
}

interface Tree {
  readonly tree: string;
  readonly pack: Uint8Array;
  readonly files: readonly TreeFile[];
}

/** The project room; null on peers that hold no repository. */
export interface ControlProject {
  executeCommit(intent: CommitIntent, options: Waiting): Promise<string>;
  ensureRevision(revision: string, options: Waiting): Promise<void>;
  ensurePack(pack: string, options: Waiting): Promise<void>;
  patch(base: string | null, tree: string): Promise<string>;
  history(
    limit: number,
  ): Promise<
    readonly { readonly revision: string; readonly author: string; readonly atMs: number; readonly message: string }[]
  >;
  checkout(treeish: string, folder: string): Promise<void>;
  treeOf(folder: string, base: string | null): Promise<Tree>;
  readonly workFolders: {
    read(
      folder: string,
      project: {
        readonly head: string | null;
        readonly draft: { readonly tree: string; readonly actor: string } | null;
      },
    ): Promise<
      { readonly kind: 'unchanged' | 'reverted'; readonly tree: string } | ({ readonly kind: 'changed' } & Tree)
    >;
    write(
      folder: string,
      target: {
        readonly head: string | null;
        readonly from: string;
        readonly tree: string;
        readonly pack: Uint8Array | null;
      },
    ): Promise<void>;
  };
}

export interface JobOptions {
  readonly signal: AbortSignal;
  /** The task whose log, on the builder, takes the job's lines. */
  readonly task?: string;
  readonly onProgress?: (progress: BuildProgress) => void;
}

/** One builder, here or elsewhere. */
export interface ControlBuilder {
  evaluate(request: EvaluateRequest, options: JobOptions): Promise<Evaluation>;
  build(request: BuildRequest, options: JobOptions): Promise<BuildResult>;
  update(request: UpdateRequest, options: JobOptions): Promise<UpdateResult>;
}

interface ClosurePath {
  readonly storePath: string;
  readonly narSize: number;
}

/** Compares two closures; the weightiest changes come first. */
export type DiffClosures = (
  before: readonly ClosurePath[],
  after: readonly ClosurePath[],
) => { readonly changes: readonly ClosureChange[] };

export interface ControlJournal {
  pull(request: {
    readonly peer: string;
    readonly incarnation: number;
    readonly from: number;
    readonly signal: AbortSignal;
  }): Promise<readonly Report[]>;
  /** This peer's own reports. */
  read(from: number, limit: number): Promise<readonly Report[]>;
  incarnation(): number;
  taskLog(task: string): {
    append(lines: readonly Pick<LogLine, 'stream' | 'level' | 'text'>[]): void;
    end(): void;
  };
  readLogs(request: {
    readonly peer: string;
    readonly task: string;
    readonly follow: boolean;
    readonly signal: AbortSignal;
  }): AsyncIterable<LogLine>;
}

export interface ControlComponents {
  readonly mesh: Pick<Mesh, 'self' | 'addresses' | 'handle' | 'open' | 'connectedPeers' | 'onPeerChange'>;
  readonly ledger: ControlLedger;
  readonly leadership: Leadership;
  /** Null on peers that do not vote. */
  readonly voters: ControlVoters | null;
  readonly blobs: Pick<BlobStore, 'put'>;
  readonly project: ControlProject | null;
  /** The builder of a peer with that role; this peer's own included. */
  readonly builderAt: (peer: string) => ControlBuilder;
  /** Resolves once a peer besides its builder has a built closure, or none can: it must outlive its builder. */
  readonly keepTwice: (manifest: string, builder: string, options: Waiting) => Promise<void>;
  readonly diffClosures: DiffClosures;
  readonly journal: ControlJournal;
  /** Makes the text of an invite and the hash by which the ledger knows it. */
  readonly createToken: (facts: {
    readonly fleet: string;
    readonly addresses: string[];
    readonly expiresAtMs: number;
  }) => { readonly text: string; readonly keyHash: string };
  /** What this peer says about itself in its beats. */
  readonly facts: () => BeatFacts;
  readonly clock: Clock;
  readonly randomBytes: RandomBytes;
  readonly logger: Logger;
}
