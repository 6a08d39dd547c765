// Owns what a peer does with what was proven to it: on the disk together with its proof first, then applied, then believed.
// And what a certificate proves about the own entries.

import type { Certificate } from '../../protocols/certificate.ts';
import type { CommittedEntry } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import type { GenerationRecord } from '../../protocols/generation.ts';
import type { Certificates, Certified } from './certificates.ts';
import type { EntryLog } from './entry-log.ts';
import type { ProvenState } from './entry-puller.ts';
import type { Replica } from './replica.ts';
import { type Proven, recordsOf } from './trust-core.ts';

/** Entries and bytes replayed at once. */
const replayBytesMax = 512 * 1024;

interface Keeping {
  readonly certificates: Certificates;
  readonly log: EntryLog;
  readonly replica: Replica;
}

/** Takes entries that a certificate covers. */
export async function takeEntries({ certificates, log, replica }: Keeping, proven: Proven): Promise<void> {
  const { operations, believe } = certificates.prepare(proven);
  await log.append(proven.entries, operations);
  replica.apply(proven.entries);
  believe();
}

/** Takes the state of a checkpoint in the place of the own one, which is older. */
export async function takeState({ certificates, log, replica }: Keeping, proven: ProvenState): Promise<void> {
  const { state, data, proofs, checkpoint } = proven;
  const { certificate } = checkpoint;
  const changes = proofs.map((configuration) =>
    certificates.prepare({ certificate: configuration.certificate, configuration }),
  );
  const end = certificates.prepare({ certificate, checkpoint });
  // The proofs lie on the disk before the state that hangs on them; without it they are worth no less.
  await log.append(
    [],
    [...changes, end].flatMap(({ operations }) => operations),
  );
  for (const { believe } of changes) believe();
  // It may have been on another branch than the one that the generation goes on from.
  if (state.generation > replica.state().generation) await certificates.forgetBefore(state.generation);
  const { index, term, chainHash } = state;
  await replica.restore({ index, term, chainHash, data });
  end.believe();
  await log.clear();
}

/** Applies what a member had pulled after its snapshot, as far as it fits what is certain; `base` is of a generation that follows on it. */
export async function replay({ certificates, log, replica }: Keeping, base?: GenerationRecord): Promise<void> {
  const [last] = base === undefined ? [] : await log.read(base.baseIndex, undefined, 1);
  const vouchedTo = last !== undefined && last.chainHash === base?.baseHash ? last.index : 0;
  const provenTo = Math.max(certificates.certifiedIndex(), vouchedTo);
  for (;;) {
    const { index, chainHash } = replica.state();
    const stored = await log.read(index + 1, chainHash, replayBytesMax);
    const wrong = stored.findIndex((entry) => {
      const certain = certificates.certainHash(entry.index);
      return entry.index > provenTo || (certain !== undefined && certain !== entry.chainHash);
    });
    const entries = wrong < 0 ? stored : stored.slice(0, wrong);
    if (entries.length > 0) replica.apply(entries);
    if (wrong >= 0 || entries.length === 0) return;
  }
}

/**
 * What a certificate proves here: undefined where the own entry is gone.
 * @throws ParleyError `contradiction` when the own ledger has another entry there.
 */
export async function certifiedHere(
  certificate: Certificate,
  entries: (from: number, limit: number) => Promise<readonly CommittedEntry[] | undefined>,
  genesisChainHash: string,
): Promise<Certified | undefined> {
  const { index, chainHash } = certificate;
  const before = index === 2 ? genesisChainHash : (await entries(index - 1, 1))?.[0]?.chainHash;
  const entry = (await entries(index, 1))?.[0];
  if (entry === undefined) return undefined;
  if (entry.chainHash !== chainHash) {
    const text = `a certificate says that the fleet has another entry ${index} than this ledger`;
    throw new ParleyError('contradiction', text, { hint: 'This ledger is damaged, or voters signed two histories.' });
  }
  return { certificate, ...(before === undefined ? {} : recordsOf(entry, before, certificate)) };
}
