// Owns the snapshot that is kept ready for followers that need one. A body is up to 16 MiB, so it is made only when
// somebody needs it and let go when nobody has for a while.

import { type SnapshotMetadata, snapshotBytesMax } from '../../protocols/consensus-record.ts';
import type { Clock } from '../interfaces.ts';
import type { Snapshot } from './log-records.ts';

/** A follower that comes back within this time gets the same snapshot. */
const keptMs = 60_000;

export interface ShelfInit {
  readonly prepare: () => Promise<Snapshot>;
  readonly onFailure: (error: unknown) => void;
  readonly clock: Pick<Clock, 'after'>;
}

export interface SnapshotShelf {
  /** What is on the shelf. */
  prepared(): Snapshot | undefined;
  /** A snapshot at or after an index if one is ready; else has one made and answers undefined until then. */
  take(fromIndex: number): SnapshotMetadata | undefined;
  clear(): void;
}

export function createSnapshotShelf({ prepare, onFailure, clock }: ShelfInit): SnapshotShelf {
  let prepared: Snapshot | undefined;
  let preparing = false;
  let cancelExpiry: (() => void) | undefined;

  function clear(): void {
    cancelExpiry?.();
    prepared = undefined;
  }

  async function refresh(): Promise<void> {
    try {
      const made = await prepare();
      const bytes = made.body.byteLength;
      if (bytes > snapshotBytesMax)
        throw new Error(`the snapshot has ${bytes} bytes: the limit is ${snapshotBytesMax}`);
      clear();
      prepared = made;
      cancelExpiry = clock.after(keptMs, clear);
    } catch (error) {
      onFailure(error);
    } finally {
      preparing = false;
    }
  }

  return {
    prepared: () => prepared,
    take(fromIndex) {
      if (prepared && prepared.metadata.index >= fromIndex) return prepared.metadata;
      if (!preparing) {
        preparing = true;
        void refresh();
      }
      return undefined;
    },
    clear,
  };
}
