// Owns certificates on a voter: it signs what it has applied and may sign, collects the others' signatures while it leads,
// hands certificates to all voters, and asks for those that it lacks while it does not. What it may sign and which
// certificates exist is the state machine's to say; a signature never leaves before the entry is applied here.

import {
  allVoters,
  type Certificate,
  type CertifiedPlace,
  certificateStatement,
  type VoterSet,
} from '../../protocols/certificate.ts';
import {
  type CertificateAnswer,
  type CertificateShare,
  certificatePlacesMax,
} from '../../protocols/certificate-exchange.ts';
import type { CommittedEntry } from '../../protocols/consensus-record.ts';
import { type ErrorRecord, ParleyError } from '../../protocols/errors.ts';
import type { Clock, Logger, Mesh, MessageStream } from '../interfaces.ts';
import { Collector, type Wanted } from './certifier-core.ts';
import { CertifierLinks } from './certifier-links.ts';
import { CertifierServer } from './certifier-server.ts';
import { Complaints } from './complaints.ts';
import { nobody } from './core/index.ts';
import type { MemberDirectory } from './message-links.ts';
import type { Certifying } from './types.ts';

/** Between two rounds for the log's end: what is under load certified together, and members wait no longer than this. */
const tailPeriodMs = 25;
/** Entries that may be refused at the log's end before another tail is taken. */
const tailReach = 16;

export interface CertifierComponents {
  readonly raftId: number;
  /** What is left over is looked at again so often: voters that did not answer, certificates that did not come. */
  readonly lookPeriodMs: number;
  readonly certifying: Certifying;
  readonly mesh: Pick<Mesh, 'self' | 'open'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly members: MemberDirectory;
  readonly leads: () => boolean;
  /** Raft id of the leader that this voter knows of; 0 for none. */
  readonly leader: () => number;
  readonly appliedIndex: () => number;
  /** An applied entry that the log still holds. */
  readonly entryAt: (index: number) => CommittedEntry | undefined;
  readonly learners: () => readonly number[];
}

export class Certifier {
  readonly #components: CertifierComponents;
  readonly #collector: Collector;
  readonly #links: CertifierLinks;
  readonly #server: CertifierServer;
  readonly #complaints: Complaints;
  readonly #cancelLook: () => void;
  #cancelTail: (() => void) | undefined;
  #tailAtMs = Number.NEGATIVE_INFINITY;
  #leads = false;
  #turn = 0;
  #stopped = false;

  constructor(components: CertifierComponents) {
    this.#components = components;
    const { certifying, clock, mesh, members } = components;
    const fleet = (): string => certifying.ledger().fleet();
    this.#complaints = new Complaints(components);
    this.#collector = new Collector(fleet(), certifying.verifySignature);
    this.#links = new CertifierLinks({
      fleet,
      mesh,
      clock,
      onAnswer: (peer, answer) => this.#onAnswer(peer, answer),
      onBadAnswer: (peer, error) => this.#complaints.dropped(peer, error),
    });
    this.#server = new CertifierServer({
      fleet,
      clock,
      isVoter: (peer) => members.raftIdOf(peer) !== undefined,
      sign: (peer, place) => this.#sign(peer, place),
      take: (peer, certificates) => this.#take(peer, certificates),
      give: (indexes, after) => this.#give(indexes, after),
    });
    this.#cancelLook = clock.every(components.lookPeriodMs, () => this.#look());
    this.#recall();
  }

  /** Certificates and signatures of others that were no good, since the start. */
  get dropped(): number {
    return this.#complaints.count;
  }

  /** What this voter refused to sign and people must look into, since the start. */
  get alarm(): ErrorRecord | undefined {
    return this.#complaints.alarm;
  }

  serve(stream: MessageStream): Promise<void> {
    return this.#server.serve(stream);
  }

  /** More is applied, or another voter leads. */
  changed(): void {
    if (this.#stopped) return;
    this.#server.changed();
    const leads = this.#components.leads();
    if (this.#leads && !leads) {
      this.#collector.clear();
      this.#links.close();
    }
    this.#leads = leads;
    if (leads) this.#collect();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelLook();
    this.#cancelTail?.();
    this.#collector.clear();
    this.#links.close();
    this.#server.stop();
  }

  /** The state machine may have been put away without certificates that were still to come. */
  #recall(): void {
    const { certifying, appliedIndex, entryAt } = this.#components;
    let index = appliedIndex();
    for (let entry = entryAt(index); entry !== undefined; entry = entryAt(index)) {
      certifying.ledger().recall(entry);
      index -= 1;
    }
  }

  #look(): void {
    this.changed();
    this.#askForMissing();
  }

  /** The leader's part: places of their own at once, the tail one at a time. */
  #collect(): void {
    const ledger = this.#components.certifying.ledger();
    const now = this.#components.clock.monotonicMs();
    for (const index of ledger.uncertified()) {
      if (this.#collector.full) break;
      if (this.#collector.has(index)) continue;
      const wanted = this.#wantedAt(index);
      if (wanted === undefined) continue;
      this.#collector.begin(wanted, now);
      this.#addOwn(wanted.place);
    }
    this.#collectTail(now);
    for (const [peer, places] of this.#collector.asks(now, this.#components.raftId)) this.#links.sign(peer, places);
  }

  #collectTail(now: number): void {
    const { certifying, appliedIndex, clock } = this.#components;
    const certified = certifying.ledger().certifiedIndex();
    if (appliedIndex() <= certified || this.#collector.hasTail(now)) return;
    const dueMs = this.#tailAtMs + tailPeriodMs - now;
    if (dueMs > 0) {
      this.#cancelTail ??= clock.after(dueMs, () => {
        this.#cancelTail = undefined;
        this.changed();
      });
      return;
    }
    for (let index = appliedIndex(); index > Math.max(certified, appliedIndex() - tailReach); index -= 1) {
      if (this.#collector.has(index)) return;
      const wanted = this.#wantedAt(index);
      if (wanted === undefined) continue;
      this.#tailAtMs = now;
      this.#collector.beginTail(wanted, now);
      this.#addOwn(wanted.place);
      return;
    }
  }

  #addOwn(place: CertifiedPlace): void {
    const own = this.#sign(this.#components.mesh.self, place);
    if (own !== undefined && own !== 'later') this.#count(this.#components.mesh.self, own);
  }

  /** The place at an index if this voter finds nothing against certifying it. */
  #wantedAt(index: number): Wanted | undefined {
    const entry = this.#components.entryAt(index);
    const voterSet = this.#components.certifying.ledger().voterSetBefore(index);
    if (entry === undefined || voterSet === undefined || this.#verdictOn(entry) !== 'sign') return undefined;
    return { voterSet, place: { generation: voterSet.generation, index, chainHash: entry.chainHash } };
  }

  #verdictOn(entry: CommittedEntry): 'sign' | 'wait' | 'refuse' {
    const verdict = this.#components.certifying.ledger().verdictOn(entry);
    if (verdict.kind === 'refuse') this.#complaints.refused(entry.index, verdict);
    return verdict.kind;
  }

  /** This voter's share of a place: nothing before it is applied, nor where it finds something else there. */
  #sign(peer: string, place: CertifiedPlace): CertificateShare | 'later' | undefined {
    const { raftId, certifying, appliedIndex, entryAt } = this.#components;
    const { index } = place;
    if (index > appliedIndex()) return 'later';
    const entry = entryAt(index);
    const voterSet = certifying.ledger().voterSetBefore(index);
    if (entry === undefined || voterSet === undefined || !isIn(voterSet, raftId)) return undefined;
    if (entry.chainHash !== place.chainHash || voterSet.generation !== place.generation) {
      this.#complaints.dropped(peer, otherEntry(index, place.chainHash, entry.chainHash));
      return undefined;
    }
    const verdict = this.#verdictOn(entry);
    if (verdict !== 'sign') return verdict === 'wait' ? 'later' : undefined;
    const signature = certifying.sign(certificateStatement(certifying.ledger().fleet(), place));
    return signature && { raftId, index, signature };
  }

  #count(peer: string, share: CertificateShare): void {
    const result = this.#collector.share(share);
    if (result.kind === 'forged') {
      const text = `the signature of entry ${share.index} by voter ${share.raftId} is forged, or it is no voter`;
      throw new ParleyError('certificate-invalid', text);
    }
    if (result.kind === 'certified') this.#hand(peer, result.certificate, result.voterSet);
  }

  /** A certificate is there: it is kept here and goes to everybody who votes, or did or will. */
  #hand(peer: string, certificate: Certificate, voterSet: VoterSet): void {
    const { certifying, members, mesh, learners } = this.#components;
    const others = new Set(allVoters(voterSet).map((voter) => voter.peer));
    for (const raftId of learners()) others.add(members.peerOf(raftId) ?? mesh.self);
    others.delete(mesh.self);
    for (const other of others) this.#links.take(other, certificate);
    certifying
      .ledger()
      .take(certificate)
      .then(
        () => this.changed(),
        (error: unknown) => this.#complaints.dropped(peer, error),
      );
  }

  async #onAnswer(peer: string, answer: CertificateAnswer): Promise<void> {
    if (answer.kind === 'certificates') return this.#take(peer, answer.certificates);
    for (const share of answer.shares) this.#count(peer, share);
  }

  /** Believes what is good among certificates that came; what cannot be judged yet is asked for again later. */
  async #take(peer: string, certificates: readonly Certificate[]): Promise<void> {
    const { certifying, appliedIndex, entryAt } = this.#components;
    const ledger = certifying.ledger();
    try {
      for (const certificate of certificates) {
        const { index, chainHash } = certificate;
        const isNews = index > ledger.certifiedIndex() || ledger.uncertified().includes(index);
        if (!isNews || index > appliedIndex()) continue;
        const own = entryAt(index)?.chainHash;
        if (own === undefined) continue;
        if (own !== chainHash) throw otherEntry(index, chainHash, own);
        await ledger.take(certificate);
        this.#collector.end(index);
      }
    } catch (error) {
      this.#complaints.dropped(peer, error);
      throw error;
    }
  }

  #give(indexes: readonly number[], after: number): Certificate[] {
    const ledger = this.#components.certifying.ledger();
    const places = ledger.certifiedIndex() > after ? [...indexes, ledger.certifiedIndex()] : indexes;
    return [...new Set(places)].flatMap((index) => ledger.certificateAt(index) ?? []);
  }

  /**
   * Who follows is handed certificates; what did not come it asks the leader for, or where it hears none, one voter after the
   * other. Who leads asks them too: those who would have to sign anew may be gone.
   */
  #askForMissing(): void {
    const { certifying, appliedIndex, leader, members, mesh } = this.#components;
    const ledger = certifying.ledger();
    const after = ledger.certifiedIndex();
    const indexes = ledger.uncertified().slice(0, certificatePlacesMax);
    if (indexes.length === 0 && (this.#leads || after >= appliedIndex())) return;
    const voters = ledger.voterSetBefore(appliedIndex() + 1)?.voters ?? [];
    const others = voters.map(({ peer }) => peer).filter((peer) => peer !== mesh.self);
    this.#turn += 1;
    const leading = this.#leads || leader() === nobody ? undefined : members.peerOf(leader());
    const peer = leading ?? others[this.#turn % others.length];
    if (peer !== undefined && peer !== mesh.self) this.#links.give(peer, { indexes, after });
  }
}

/** The peer's ledger has forked from this one, or it says so. */
function otherEntry(index: number, told: string, own: string): ParleyError {
  const text = `entry ${index} is spoken of with the hash ${told.slice(0, 16)}: it was committed here as ${own.slice(0, 16)}`;
  return new ParleyError('chain-mismatch', text);
}

function isIn(voterSet: VoterSet, raftId: number): boolean {
  return allVoters(voterSet).some((voter) => voter.raftId === raftId);
}
