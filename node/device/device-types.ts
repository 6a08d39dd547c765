// Owns the public shape of the device room: the machine that it switches, and what it needs of its neighbours. Types only.

import type { OrderState } from '../../protocols/journal.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type {
  Clock,
  KeyValueStore,
  Logger,
  MessageStream,
  OpenOptions,
  ProgramRecorder,
  RandomBytes,
  Startable,
} from '../interfaces.ts';
import type { Journal } from '../journal/index.ts';

export interface SwitchOptions {
  readonly signal?: AbortSignal;
  readonly onLine?: (line: string, stream: 'stdout' | 'stderr') => void;
  /** Skip the new system's own pre-switch checks: on the way back nothing may hold it up. */
  readonly skipChecks?: boolean;
}

export interface SwitchResult {
  readonly exitCode: number;
  /** The last lines of both outputs, in the order in which they came. */
  readonly output: string;
}

/** How a toplevel is switched to on this machine. `simulated`: nothing of it is run. */
export interface SwitchKind {
  readonly kind: 'contained' | 'simulated';
  readonly why: string;
}

/** The system below the peer: its store, its running system, its profile. */
export interface Machine {
  /** Prepares the folders, and takes the profile's system as running after a reboot. Called once before all others. */
  prepare(): Promise<void>;
  /** How the toplevel can be switched to. @throws ParleyError `not-a-system`, `containment-unavailable`. */
  canRun(toplevel: string): Promise<SwitchKind>;
  /** Runs the toplevel's own program. A non-zero exit is a result. @throws ParleyError `timed-out`, `cancelled`, `containment-unavailable`. */
  switchToConfiguration(toplevel: string, action: 'test' | 'boot', options?: SwitchOptions): Promise<SwitchResult>;
  /** Names of failed units of the running system. @throws ParleyError when they cannot be read. */
  failedUnits(options?: { readonly signal?: AbortSignal }): Promise<string[]>;
  /** The toplevel that runs; null before the first switch. */
  running(): Promise<string | null>;
  /** The toplevel that was booted; null where there was none. */
  booted(): Promise<string | null>;
  /** Makes a toplevel (or none) the running one without running anything of it. */
  setRunningSimulated(toplevel: string | null): Promise<void>;
  /** The system profile's toplevel: what the next boot takes. */
  profile(): Promise<string | null>;
  setProfile(toplevel: string | null): Promise<void>;
  /** Another one after each boot of the machine. */
  bootId(): Promise<string>;
  /** Bytes free where the store lies. */
  freeBytes(): Promise<number>;
}

export interface DeviceInit {
  /** Peer id of this peer. */
  readonly self: string;
  /** This peer's name, which is its host's in `nixosConfigurations`. */
  readonly host: string;
  /** Wait between the switch and the look at failed units. */
  readonly healthSettleMs: number;
  /** How long another peer has to confirm the switch, from the end of activation on. */
  readonly confirmWindowMs: number;
  /** How long fetching may go on without a new byte while nobody has the closure. */
  readonly fetchPatienceMs: number;
  /** Why this peer obeys no order. */
  readonly frozen?: string | undefined;
  /** Folder for the garbage-collector roots of the current, previous and next system. */
  readonly rootsFolder: string;
}

export interface DeviceComponents {
  /** The journal's database: a state and its report are one write. */
  readonly store: KeyValueStore;
  readonly ledger: {
    state(): LedgerState;
    onApplied(listener: (state: LedgerState) => void): () => void;
    /** Orders count up to this index, on voters too. */
    certification(): { certifiedIndex(): number };
    onCertified(listener: () => void): () => void;
    fetchBlob(hash: string, options: { readonly signal: AbortSignal }): Promise<Uint8Array>;
  };
  readonly closures: {
    /** Brings what the store lacks to this machine. The first progress tells how much that is. */
    fetch(
      manifestHash: string,
      options: {
        readonly signal: AbortSignal;
        readonly onProgress?: (progress: { readonly bytesDone: number; readonly bytesTotal: number }) => void;
      },
    ): Promise<void>;
    /** Makes the fetched closure valid in the store, signatures checked, with a garbage-collector root. */
    realise(manifestHash: string, options: { readonly rootLink: string; readonly signal: AbortSignal }): Promise<void>;
    /** The closure is not wanted any more. */
    release(manifestHash: string): Promise<void>;
  };
  readonly nix: {
    addRoot(link: string, storePath: string): Promise<void>;
    removeRoot(link: string): Promise<void>;
    /** Names of the roots in a folder; none where there is no such folder. */
    rootsIn(folder: string): Promise<string[]>;
  };
  readonly machine: Machine;
  readonly recorder: ProgramRecorder;
  readonly journal: Pick<Journal, 'append' | 'incarnation' | 'taskLog'>;
  readonly mesh: {
    handle(protocol: string, handler: (stream: MessageStream) => Promise<void>, options?: object): void;
    open(peer: string, protocol: string, options: OpenOptions): Promise<MessageStream>;
    connectedPeers(): readonly { readonly peer: string }[];
  };
  readonly identity: { sign(bytes: Uint8Array): Uint8Array };
  readonly verifySignature: (peer: string, bytes: Uint8Array, signature: Uint8Array) => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly randomBytes: RandomBytes;
}

/** What the device does now, for beats. */
export interface DeviceActivity {
  readonly order: number;
  readonly state: OrderState;
  readonly text: string;
  readonly bytesDone: number;
  readonly bytesTotal: number;
}

/** Carries out the orders for this peer's host, one at a time, and reports the truth about each. */
export interface Device extends Startable {
  /** Null while there is nothing to do. */
  activity(): DeviceActivity | null;
  /** The running and booted toplevels as last read. */
  running(): string | null;
  booted(): string | null;
  /** Called when activity, running or booted change. */
  onChange(listener: () => void): () => void;
}
