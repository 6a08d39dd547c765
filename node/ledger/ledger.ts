// Owns how the parts of the room become one ledger: what starts in which order, where entries come from, what is kept.

import type { Certificate, VoterSet } from '../../protocols/certificate.ts';
import { decode, encode } from '../../protocols/codec.ts';
import type { CommittedEntry } from '../../protocols/consensus-record.ts';
import { ParleyError } from '../../protocols/errors.ts';
import { standingGenerations } from '../../protocols/generation.ts';
import type { JoinContact } from '../../protocols/join.ts';
import { ledgerContactsBytesMax, ledgerContactsSchema } from '../../protocols/ledger-record.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { KeyValueStore } from '../interfaces.ts';
import { createBlobClient } from './blob-client.ts';
import { type BlobGatherer, gatherBlobs, type Kept } from './blob-gatherer.ts';
import { createBlobKeeper } from './blob-keeper.ts';
import { serveBlobs } from './blob-server.ts';
import { type Certificates, createCertificates } from './certificates.ts';
import { createCertification, type LedgerCertification } from './certification.ts';
import { createEntryLog, type EntryLog } from './entry-log.ts';
import { followVoters } from './entry-puller.ts';
import { serveEntries } from './entry-server.ts';
import { type Genesis, readGenesis } from './genesis-core.ts';
import type { Ledger, LedgerComponents, LedgerConsensus, LedgerInit } from './ledger-types.ts';
import { createListeners, waitForState } from './listeners.ts';
import { createMemberViews, type MemberViews, mayBringBlobs } from './member-views.ts';
import { gatherProofs } from './proof-gatherer.ts';
import { createProposals } from './proposals.ts';
import { certifiedHere, replay, takeEntries, takeState } from './proven.ts';
import { createReplica, type Replica } from './replica.ts';
import { createSnapshotStore, type SnapshotStore } from './snapshots.ts';
import { type ProvenVoters, provenVoters, watchVoterSet } from './voter-set-watch.ts';
import { createWayBack, type WayBack } from './way-back.ts';

const genesisKey = 'genesis';
const contactsKey = 'contacts';
/** Bytes of entries replayed or served at once. */
const readBytesMax = 512 * 1024;
/** Entries that consensus keeps for voters that are a little behind. */
const logTail = 1_000;

/** What exists between start and stop. */
interface Running {
  readonly genesis: Genesis;
  readonly certificates: Certificates;
  readonly replica: Replica;
  readonly certification: LedgerCertification;
  readonly snapshots: SnapshotStore;
  readonly log: EntryLog;
  readonly stops: (() => void | Promise<void>)[];
}

/** One peer's ledger. `start` rejects with ParleyError `no-ledger`, `wrong-fleet` or what the store says. */
export function createLedger(init: LedgerInit): (components: LedgerComponents) => Ledger {
  return (components) => {
    const { store, blobs, mesh, clock, logger } = components;
    const listeners = createListeners<LedgerState>(logger);
    const certified = createListeners<Certificate>(logger);
    const voterSetProven = createListeners<VoterSet>(logger);
    const keptChanged = createListeners<Kept>(logger);
    let gatherer: BlobGatherer | undefined;
    const newestGeneration = init.generations?.at(-1)?.number ?? 0;
    let wayBack: WayBack | undefined;
    let lastProven: ProvenVoters | undefined;
    let contacts: readonly JoinContact[] = [];
    let running: Running | undefined;
    let consensus: LedgerConsensus | undefined;
    const required = (): Running => {
      if (running !== undefined) return running;
      throw new ParleyError('not-started', 'the ledger is not running: it has not started or has stopped', {
        retryable: true,
      });
    };
    const state = (): LedgerState => required().replica.state();
    /** What was proven of newer voters than the own ledger's. */
    const proven = (): ProvenVoters | undefined => {
      const ownIndex = running?.replica.state().voterSet.index ?? Number.POSITIVE_INFINITY;
      return lastProven !== undefined && lastProven.set.index > ownIndex ? lastProven : undefined;
    };
    const views = createMemberViews({
      self: init.self,
      clock,
      state: () => running?.replica.state(),
      contacts: () => contacts,
      contactsIndex: init.contactsIndex ?? 0,
      ...{ proven, onProven: voterSetProven.add, wayBack: () => wayBack },
      generation: newestGeneration,
      onApplied: listeners.add,
    });
    const proposals = createProposals({ clock, state, consensus: () => consensus });
    const blobClient = createBlobClient({ self: init.self, mesh, blobs, clock, logger, state });

    async function open(): Promise<Running> {
      const genesis = await openGenesis(init, components);
      contacts = await openContacts(store);
      let orders: { readonly of: LedgerState['orders']; readonly numbers: ReadonlySet<number> } | undefined;
      const generations = init.generations ?? [];
      const certificates = createCertificates({
        store,
        logger,
        generations,
        verifySignature: components.verifySignature,
        genesis,
        certifiedOf: (certificate) => certifiedHere(certificate, readEntries, genesis.chainHash),
        keeps() {
          const of = replica.state().orders;
          if (orders?.of !== of) orders = { of, numbers: new Set(Object.values(of).map(({ number }) => number)) };
          return orders.numbers;
        },
        onCertified(certificate) {
          if (certificate.index === replica.state().checkpointMade) tidy();
          certified.tell(certificate);
        },
      });
      await certificates.load();
      const isCheckpoint = (index: number, hash: string): boolean =>
        certificates.checkpoints().get(index)?.stateHash === hash;
      const snapshots = createSnapshotStore({ store, logger, generations, isCheckpoint });
      const stored = await snapshots.load();
      const first = stored?.state ?? genesis.state;
      if (first.voterSet.index < (init.contactsIndex ?? 0)) contacts = init.contacts ?? contacts;
      if (first.fleet !== genesis.fleet) throw wrongFleet(first.fleet, genesis.fleet);
      const log = createEntryLog(store, logger);
      const ahead = standingGenerations(generations).find(({ number }) => number > first.generation);
      if (ahead !== undefined) {
        await log.dropAfter(ahead.baseIndex);
        contacts = init.contacts ?? contacts;
      }
      const replica = createReplica({
        first,
        storedBytes: stored?.bytes,
        snapshots,
        logger,
        generations,
        stopsAtLevel: init.source === 'consensus',
        onEntry(entry, applied) {
          proposals.applied(entry, applied.result);
          certification.applied(entry, applied);
        },
        onRestoring: certificates.leap,
        onRestored: (state) => certification.restored(state),
        // What is replayed while opening was told of before; those who watch start with the whole.
        onApplied: (state) => running !== undefined && listeners.tell(state),
        onSaved: tidy,
      });
      certificates.applied(first);
      const certification = createCertification({ certificates, ...replica, generation: newestGeneration });
      if (init.source === 'voters') await replay({ certificates, log, replica }, ahead);
      // What was certified further on may be of another branch than the one that the generation goes on from.
      if (ahead !== undefined) await certificates.goBack(replica.state().index);
      // Who gave up its vote has no log any more from which its last change could be proven.
      if (init.source === 'voters') await certificates.leap(replica.state());
      return { genesis, certificates, replica, certification, snapshots, log, stops: [] };
    }

    /** Proofs that nobody else may have count as one more thing that is missing. */
    function kept(): Kept | undefined {
      const found = gatherer?.kept();
      const unproven = running?.certificates.missing() === undefined ? 0 : 1;
      return found && { ...found, lacking: found.lacking + unproven };
    }

    function tellKept(): void {
      const now = kept();
      if (now !== undefined) keptChanged.tell(now);
    }

    function onLongerOrCertified(listener: () => void): () => void {
      const unsubscribes = [listeners.add(listener), certified.add(listener)];
      return () => {
        for (const unsubscribe of unsubscribes) unsubscribe();
      };
    }

    /** Serving and following begin once the state is there. */
    function begin(opened: Running): void {
      const { genesis, certificates, certification, replica, snapshots, stops } = opened;
      const keeper = createBlobKeeper({ blobs, clock, logger, state: replica.state });
      const mayBring = (peer: string): boolean => mayBringBlobs(replica.state(), peer);
      const taking = init.source === 'consensus' ? { mayBring, keeper } : undefined;
      serveBlobs({ mesh, blobs, clock, logger, taking });
      stops.push(keeper.stop);
      stops.push(
        serveEntries({
          mesh,
          clock,
          logger,
          top: () => Math.min(Math.max(1, certification.certifiedIndex()), replica.state().index),
          generationBase: standingGenerations(init.generations ?? []).at(-1)?.baseIndex ?? 0,
          onChange: onLongerOrCertified,
          entries: readEntries,
          genesisChainHash: genesis.chainHash,
          certificates,
          snapshots,
        }),
      );
      wayBack = createWayBack({
        ...{ mesh, clock, logger, isMember: views.mesh.isMember },
        wantedCount: () => views.mesh.wanted().length,
        ask: (stranger) => watch(opened, { voters: () => [], others: () => [stranger] }),
      });
      stops.push(wayBack.stop);
      stops.push(
        gatherProofs({ ...pulling(replica), certificates, onChange: onLongerOrCertified, onGathered: tellKept }),
      );
      if (init.source === 'consensus') {
        const { fetchBlob } = blobClient;
        const watching = { state: replica.state, onApplied: listeners.add, onLooked: tellKept };
        gatherer = gatherBlobs({ blobs, clock, logger, fetchBlob, ...watching });
        stops.push(gatherer.stop);
        return;
      }
      stops.push(
        followVoters({
          ...pulling(replica),
          certificates,
          take: (proven) => saying('entries', () => takeEntries(opened, proven)),
          takeState: (proven) => saying('a checkpoint', () => takeState(opened, proven)),
          // Whoever proves them may have no more than that: those who vote now are to be let in.
          onVotersProven: ({ sets }) => meetVoters(provenVoters(sets.at(-1) ?? sets[0])),
        }),
      );
    }

    /** From now on these count as known, until the own ledger has come to them. */
    function meetVoters(newer: ProvenVoters): void {
      // Several are asked at once, and some know less than others.
      if (lastProven !== undefined && newer.set.index < lastProven.set.index) return;
      lastProven = newer;
      voterSetProven.tell(newer.set);
    }

    const pulling = (replica: Replica) => ({
      ...{ self: init.self, mesh, clock, logger, verifySignature: components.verifySignature },
      place: replica.state,
      ...{ voters: views.voters, others: views.others },
      isMember: views.mesh.isMember,
    });

    function watch(
      { replica, certificates }: Running,
      sources: Partial<Pick<MemberViews, 'voters' | 'others'>> = {},
    ): () => Promise<void> {
      return watchVoterSet({ ...pulling(replica), ...sources }, certificates.trust(), meetVoters);
    }

    /** A member that cannot store what it is sent stays behind: that must not go unseen. */
    async function saying(what: string, store: () => Promise<void>): Promise<void> {
      try {
        await store();
      } catch (error) {
        logger.error({ index: state().index, error: String(error) }, `the ledger could not take ${what}`);
        throw error;
      }
    }

    /** Entries are let go once a certified checkpoint stands for them, and a snapshot after it lies beside it. */
    function tidy(): void {
      if (running === undefined) return;
      letGo(running).catch((error) => {
        logger.warn({ error: String(error) }, 'old ledger entries could not be removed');
      });
    }

    async function letGo({ certificates, snapshots, log, replica }: Running): Promise<void> {
      const settled = snapshots.settledIndex();
      if (settled === 0) return;
      const lastIndex = replica.state().index;
      if (init.source === 'consensus') await consensus?.compact(Math.min(settled, lastIndex - logTail));
      await log.prune(settled, lastIndex);
      await certificates.forgetCheckpoints(snapshots.oldest());
    }

    async function readEntries(from: number, limit: number): Promise<readonly CommittedEntry[] | undefined> {
      const { log } = required();
      if (from > state().index) return [];
      try {
        if (init.source === 'consensus') return await consensus?.committedEntries(from, limit);
      } catch (error) {
        if (!(error instanceof ParleyError && error.code === 'compacted')) throw error;
      }
      // Also on a voter: its consensus begins where it took up its vote, and what it pulled before that may be all there is.
      const entries = (await log.read(from, undefined, limit === 1 ? 1 : readBytesMax)).slice(0, limit);
      return entries.length === 0 ? undefined : entries;
    }

    return {
      async start() {
        if (running !== undefined) return;
        running = await open();
        begin(running);
        listeners.tell(state());
      },
      async stop() {
        const stopping = running;
        if (stopping === undefined) return;
        await Promise.all(stopping.stops.map((stop) => stop()));
        await stopping.replica.close();
        [running, lastProven, gatherer, wayBack] = [undefined, undefined, undefined, undefined];
      },
      state,
      genesis: () => required().genesis.bytes,
      stateHash: () => required().replica.stateHash(),
      onApplied: listeners.add,
      waitFor: (predicate, signal) => waitForState({ state, onApplied: listeners.add }, predicate, signal),
      propose: proposals.propose,
      useConsensus(given) {
        consensus = given;
      },
      appliedIndex: () => state().index,
      apply: async (entries) => required().replica.apply(entries),
      snapshot: () => required().replica.save(),
      restore: (snapshot) => required().replica.restore(snapshot),
      durableIndex: () => required().snapshots.settledIndex(),
      checkpointDue: () => required().replica.checkpointDue(),
      certification: () => required().certification,
      onCertified: certified.add,
      newestVoterSet: () => proven()?.set ?? state().voterSet,
      onVoterSetProven: voterSetProven.add,
      watchVoterSet: () => watch(required()),
      meshMembers: () => views.mesh,
      raftMembers: () => views.raft,
      fetchBlob: blobClient.fetchBlob,
      replicateBlob: blobClient.replicateBlob,
      kept,
      onKept: keptChanged.add,
    };
  };
}

/** The stored foundation, or the given one, which is stored then together with the contacts. */
async function openGenesis(init: LedgerInit, { store }: LedgerComponents): Promise<Genesis> {
  const stored = await store.get(genesisKey);
  const bytes = stored ?? init.genesis;
  if (bytes === undefined) {
    throw new ParleyError('no-ledger', 'this peer belongs to no fleet yet', {
      hint: 'Found one with `parley init`, or join one with `parley join TOKEN`.',
    });
  }
  const genesis = readGenesis(bytes);
  if (init.genesis !== undefined && readGenesis(init.genesis).fleet !== genesis.fleet) {
    throw wrongFleet(genesis.fleet, readGenesis(init.genesis).fleet);
  }
  if (stored === undefined) {
    const puts = [
      { type: 'put', key: genesisKey, value: bytes },
      { type: 'put', key: contactsKey, value: encode(init.contacts ?? []) },
    ] as const;
    await store.batch(puts, { sync: true });
  }
  return genesis;
}

async function openContacts(store: KeyValueStore): Promise<readonly JoinContact[]> {
  const bytes = await store.get(contactsKey);
  return bytes === undefined ? [] : decode(ledgerContactsSchema, bytes, ledgerContactsBytesMax, 'contacts');
}

function wrongFleet(actual: string, given: string): ParleyError {
  const text = `the state folder belongs to fleet ${actual.slice(0, 8)}: not to ${given.slice(0, 8)}`;
  return new ParleyError('wrong-fleet', text, { hint: 'Use an empty state folder for another fleet.' });
}
