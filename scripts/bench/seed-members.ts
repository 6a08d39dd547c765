// Owns writing many members into a founded fleet's ledger before its peer first runs: with the real ledger and consensus on the
// peer's own stores, as if they had joined one after another.

import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { bootstrapLog, createConsensus } from '../../node/consensus/index.ts';
import { identityFileOf, loadMembership, voterKeyFileOf } from '../../node/enrolment.ts';
import { createLogger, systemClock } from '../../node/host/index.ts';
import { createLedger, readGenesis } from '../../node/ledger/index.ts';
import { createMesh, inviteKeyOf, loadIdentity, verifySignature } from '../../node/mesh/index.ts';
import { createBlobStore, createWitnessFile, openStore } from '../../node/store/index.ts';
import { plainConfiguration } from '../../protocols/consensus-record.ts';
import type { EntryDraft } from '../../protocols/ledger-entries.ts';

/** Joins under way at once: below the limit of open invites. */
const together = 100;

export interface Seeded {
  /** A place `behind` entries before the last one. */
  readonly index: number;
  readonly chainHash: string;
  readonly lastIndex: number;
}

/** Lets these peers join, then adds entries that members lack. */
export async function seedMembers(stateFolder: string, peers: readonly string[], behind: number): Promise<Seeded> {
  const logger = createLogger({ level: 'silent' });
  const membership = await loadMembership(stateFolder);
  const identity = await loadIdentity(identityFileOf(stateFolder));
  const voterKey = await loadIdentity(voterKeyFileOf(stateFolder));
  const never = () => false;
  const nobody = {
    isMember: never,
    wasRemoved: never,
    joinsOpen: never,
    asksStrangers: never,
    meet: () => undefined,
    wanted: () => [],
    onChange: () => () => undefined,
  };
  const mesh = createMesh({ privateKey: identity.privateKey, listen: [], discovery: 'none' })({
    ...{ clock: systemClock, logger, random: randomBytes, members: nobody },
  });
  const stores = await Promise.all(['ledger', 'consensus'].map((name) => openStore(join(stateFolder, name))));
  const [ledgerStore, store] = stores;
  if (ledgerStore === undefined || store === undefined) throw new Error('no stores');
  const { genesis } = membership;
  const ledger = createLedger({ self: identity.peer, source: 'consensus', genesis })({
    ...{ store: ledgerStore, blobs: createBlobStore(join(stateFolder, 'blobs')), mesh, clock: systemClock, logger },
    verifySignature,
  });
  const { chainHash, state } = readGenesis(genesis);
  const configuration = plainConfiguration([1]);
  const witness = createWitnessFile(join(stateFolder, 'consensus.witness'));
  await bootstrapLog({ store, witness }, { index: state.index, term: state.term, chainHash, configuration });
  const consensus = createConsensus({ raftId: membership.raftId })({
    ...{ store, witness, mesh, clock: systemClock, logger, randomBytes, stateMachine: ledger },
    members: ledger.raftMembers(),
    certifying: { ledger: ledger.certification, sign: voterKey.sign, verifySignature },
  });
  const leads = Promise.withResolvers<void>();
  consensus.onRoleChange(({ role }) => role === 'leader' && leads.resolve());
  await ledger.start();
  await consensus.start();
  ledger.useConsensus(consensus);
  await leads.promise;

  const signal = AbortSignal.timeout(300_000);
  const propose = async (drafts: readonly EntryDraft[]): Promise<void> => {
    await Promise.all(drafts.map((draft) => ledger.propose(draft, { signal })));
  };
  const actor = 'controller';
  for (let first = 0; first < peers.length; first += together) {
    await propose(
      peers.slice(first, first + together).flatMap((peer, at): EntryDraft[] => {
        const name = `member-${first + at}`;
        const inviteKey = inviteKeyOf(createHash('sha256').update(name).digest());
        const invite = {
          keyHash: inviteKey.keyHash,
          name,
          site: 'shop',
          roles: ['member' as const],
          expiresAtMs: 4e12,
        };
        const facts = { peer, addresses: [], system: 'x86_64-linux' };
        const proof = inviteKey.prove(ledger.state().fleet, facts);
        return [
          { kind: 'invite-opened', actor, body: invite },
          { kind: 'member-joined', actor, body: { ...facts, proof } },
        ];
      }),
    );
  }
  const place = ledger.state();
  for (let number = 0; number < behind; number += 1) {
    const addresses = [`/ip4/127.0.0.1/tcp/${number + 1}`];
    await propose([
      { kind: 'member-updated', actor, body: { peer: identity.peer, addresses, system: 'x86_64-linux' } },
    ]);
  }
  const lastIndex = ledger.state().index;
  while (ledger.certification().certifiedIndex() < lastIndex) {
    await new Promise<void>((resolve) => {
      const unsubscribe = ledger.onCertified(() => {
        unsubscribe();
        resolve();
      });
    });
  }
  await consensus.stop();
  await ledger.stop();
  for (const each of [...stores, witness]) await each.close();
  return { index: place.index, chainHash: place.chainHash, lastIndex };
}
