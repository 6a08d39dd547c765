// Owns how one path is brought into the spool: rounds of the steps of step-plan.ts, resumed where the last sender stopped,
// until hash and size are proven. Knows nothing of who wants the path.

import { ParleyError } from '../../protocols/errors.ts';
import type { Clock, Logger } from '../interfaces.ts';
import { pause } from '../waiting.ts';
import { takeoverOrder } from './assignment-core.ts';
import { download, type Unit } from './download.ts';
import type { Grudges } from './grudges.ts';
import type { Manifests } from './manifests.ts';
import type { PeerLinks } from './peer-links.ts';
import { type Holding, isSilence, type Siblings } from './siblings.ts';
import type { Spool } from './spool.ts';
import type { SpoolWriter } from './spool-file.ts';
import { isCharge, nextStep, type Step, type StepFacts, stepKey } from './step-plan.ts';
import type { Traffic } from './traffic.ts';

/** Rounds over all candidates without a new byte before a path counts as unavailable: about a quarter of a minute. */
const roundsMax = 5;
const pauseFirstMs = 500;
const pauseMaxMs = 8_000;
/** A view of the site that is good enough while everybody agrees on who is in charge; older at large sites. */
const viewAgeMs = 1_000;
const viewAgePerPeerMs = 50;
/** A view taken before crossing out of turn: polls that start together share one answer. */
const viewAgeTakeoverMs = 100;
/** Stands for the unknown senders of bytes that were there before the peer started. */
const earlierRun = 'an earlier run';
/** Less than this is not worth a step of its own. */
const adoptBytesMin = 256 * 1024;

/** Who lives where, by this peer's view. */
export interface SiteMap {
  /** The site of a member; undefined when it is not known. */
  siteOf(peer: string): string | undefined;
  /** Other peers of this site that are reachable now. */
  livePeersAtSite(): readonly string[];
}

/** A peer that is thought to have a whole closure. */
export interface Source {
  readonly peer: string;
  readonly site: string;
}

export interface AcquireComponents {
  readonly self: string;
  readonly site: string;
  readonly sites: SiteMap;
  readonly sources: (manifestHash: string) => readonly Source[];
  readonly links: PeerLinks;
  readonly siblings: Siblings;
  readonly manifests: Manifests;
  readonly spool: Spool;
  readonly traffic: Traffic;
  readonly grudges: Grudges;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The state of a path on its way, shared with those who wait for it. */
export interface Progress {
  readonly unit: Unit;
  bytes: number;
  /** Rises when bytes that were there turned out wrong and the path starts over. */
  generation: number;
  /** Rises when this peer gave up bringing the path across the uplink. */
  resignations: number;
  /** True while the path comes across the uplink to this peer. */
  inCharge: boolean;
  proven: boolean;
  /** A neighbour asked for the path since this peer last gave up bringing it. */
  asked: boolean;
  /** How often neighbours asked. */
  asks: number;
  /** The neighbour through which it comes now. */
  gatheringFrom: string | undefined;
  /** Who sent the last bytes. */
  from: string | undefined;
  /** Ends the step that runs, so that the next one is chosen afresh. */
  interruptStep: (reason: Error) => void;
  /** Tells those who wait that something changed. */
  notify(): void;
}

interface Attempt {
  readonly components: AcquireComponents;
  readonly progress: Progress;
  readonly writer: SpoolWriter;
  readonly signal: AbortSignal;
  /** Who sent the bytes in the spool. */
  readonly contributors: Set<string>;
  /** Bytes of several senders proved wrong together: from now on one sender must give the whole. */
  unmixed: boolean;
  crossed: boolean;
}

/**
 * Brings a path into the spool, proven.
 * @throws ParleyError `closure-unavailable` (retryable) after several rounds, `disk-full`, and the signal's reason.
 */
export async function acquire(components: AcquireComponents, progress: Progress, signal: AbortSignal): Promise<void> {
  const { spool, clock } = components;
  const { path } = progress.unit;
  if (!(await spool.holds(path))) {
    const writer = await spool.write(path);
    const contributors = new Set(writer.bytes > 0 ? [earlierRun] : []);
    const attempt = { components, progress, writer, signal, contributors, unmixed: false, crossed: false };
    progress.bytes = writer.bytes;
    try {
      let failures: readonly unknown[] = [];
      for (let round = 0; round < roundsMax && !progress.proven; round += 1) {
        if (round > 0) await pause(clock, Math.min(pauseMaxMs, pauseFirstMs * 2 ** round), signal);
        const before = writer.bytes;
        failures = await runRound(attempt);
        if (failures.length > 0 && failures.every(isFinal)) break;
        if (writer.bytes > before) round = 0;
      }
      if (!progress.proven) throw worstOf(progress.unit, failures);
    } finally {
      await writer.close();
    }
  }
  progress.bytes = path.narSize;
  progress.proven = true;
  progress.notify();
}

/** Tries every candidate once until the path is proven; returns what failed. */
async function runRound(attempt: Attempt): Promise<unknown[]> {
  const { components, progress, writer, signal } = attempt;
  const tried = new Set<string>();
  const failures: unknown[] = [];
  let fresh = false;
  let { asks } = progress;
  for (;;) {
    if (writer.bytes === progress.unit.path.narSize) {
      const wrong = await prove(attempt);
      if (wrong === undefined) return [];
      failures.push(wrong);
    }
    const facts = await gatherFacts(attempt, tried, fresh);
    if (progress.asks !== asks) tried.delete(stepKey({ kind: 'resign', peer: components.self }));
    ({ asks } = progress);
    const step = nextStep({ ...facts, asked: progress.asked });
    if (step === undefined) return failures;
    if (isCharge(step) && !fresh && facts.order[0] !== components.self) {
      fresh = true;
      continue;
    }
    tried.add(stepKey(step));
    if (step.kind === 'resign') {
      progress.asked = false;
      progress.inCharge = false;
      progress.resignations += 1;
      progress.notify();
      continue;
    }
    try {
      await runStep(attempt, step);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof ParleyError && error.code === 'disk-full') throw error;
      if (progress.asks !== asks) tried.delete(stepKey(step));
      failures.push(error);
      await noteFailure(attempt, step, error);
    }
  }
}

/** Everything that is known of the candidates but whether we were asked meanwhile. */
async function gatherFacts(
  attempt: Attempt,
  tried: ReadonlySet<string>,
  fresh: boolean,
): Promise<Omit<StepFacts, 'asked'>> {
  const { self, site, sites, sources, siblings, manifests, grudges } = attempt.components;
  const { unit } = attempt.progress;
  const unblamed = (peer: string): boolean => peer !== self && !grudges.isBlamed(peer, unit.path.narHash);
  const willing = (peer: string): boolean => unblamed(peer) && !grudges.isSuspect(peer);
  const all = sources(unit.manifestHash);
  const local = all.filter((source) => source.site === site).map((source) => source.peer);
  const live = sites.livePeersAtSite().filter(willing);
  const neighbours = [...new Set([...live, ...local.filter(willing)])];
  const holdings = await siblings.view({
    manifestHash: unit.manifestHash,
    pathCount: (await manifests.get(unit.manifestHash)).paths.length,
    peers: neighbours,
    ageMaxMs: fresh ? viewAgeTakeoverMs : viewAgeMs + viewAgePerPeerMs * neighbours.length,
  });
  const having = (test: (holding: Holding) => boolean): string[] => {
    const peers = holdings.filter((holding) => willing(holding.peer) && test(holding)).map(({ peer }) => peer);
    return takeoverOrder(`${self}\n${unit.path.narHash}`, peers);
  };
  const across = all.filter((source) => source.site !== site).map((source) => source.peer);
  return {
    self,
    order: takeoverOrder(unit.path.narHash, [...live, self]),
    holders: having(({ held }) => held.has(unit.ordinal)),
    receivers: having(({ arriving }) => arriving.has(unit.ordinal)),
    partialHolders: having(({ partials }) => (partials.get(unit.ordinal) ?? 0) >= attempt.writer.bytes + adoptBytesMin),
    sources: [...new Set([...across.filter(willing), ...across.filter(unblamed)])],
    tried,
  };
}

async function runStep(attempt: Attempt, step: Step): Promise<void> {
  const { components, progress, writer, signal } = attempt;
  const { links, clock, traffic, site, sites, grudges } = components;
  const suspectBefore = grudges.isSuspect(step.peer);
  signal.throwIfAborted();
  const stepController = new AbortController();
  const follow = (): void => stepController.abort(signal.reason);
  signal.addEventListener('abort', follow, { once: true });
  progress.interruptStep = (reason) => stepController.abort(reason);
  progress.gatheringFrom = step.kind === 'gather' ? step.peer : undefined;
  progress.inCharge = isCharge(step);
  progress.notify();
  try {
    if (attempt.unmixed && writer.bytes > 0) await startOver(attempt);
    await download(links, clock, {
      peer: step.peer,
      kind: step.kind === 'gather' ? 'gather' : 'fetch',
      partial: step.kind === 'adopt',
      isAcross: step.kind === 'cross',
      isPointless: () => !suspectBefore && grudges.isSuspect(step.peer),
      unit: progress.unit,
      writer,
      signal: stepController.signal,
      onBytes(bytes) {
        attempt.contributors.add(step.peer);
        if (sites.siteOf(step.peer) !== site) attempt.crossed = true;
        traffic.received(step.peer, progress.unit.manifestHash, bytes);
        progress.bytes = writer.bytes;
        progress.from = step.peer;
        progress.notify();
      },
      onRestart: () => forgetBytes(attempt),
    });
  } finally {
    signal.removeEventListener('abort', follow);
    progress.interruptStep = () => {};
    progress.gatheringFrom = undefined;
  }
}

/** Checks hash and size of what is in the spool. When they are wrong the path starts over and the error names the senders. */
async function prove(attempt: Attempt): Promise<ParleyError | undefined> {
  const { components, progress, writer, contributors } = attempt;
  const { path, manifestHash, ordinal } = progress.unit;
  if (await writer.prove()) {
    if (attempt.crossed) components.traffic.broughtAcross(manifestHash, ordinal, path.narSize);
    progress.proven = true;
    return undefined;
  }
  const senders = [...contributors];
  const alone = senders.length === 1 && senders[0] !== earlierRun;
  const error = new ParleyError(
    alone ? 'content-mismatch' : 'content-unclear',
    `'${path.storePath}' from ${senders.join(' and ')} is refused: its hash is not the manifest's ${path.narHash}`,
    { retryable: true },
  );
  if (alone) blame(components, senders[0] ?? '', progress.unit, error);
  attempt.unmixed ||= !alone;
  await startOver(attempt);
  return error;
}

async function noteFailure(attempt: Attempt, step: Step, error: unknown): Promise<void> {
  const { components, progress, writer } = attempt;
  const fields = { peer: step.peer, step: step.kind, storePath: progress.unit.path.storePath, error: String(error) };
  components.logger.debug(fields, 'a path did not come from this peer');
  if (isSilence(error)) components.grudges.suspect(step.peer);
  if (!(error instanceof ParleyError)) return;
  if (error.code === 'malformed') components.grudges.blame(step.peer, progress.unit.path.narHash);
  if (error.code !== 'content-mismatch') return;
  blame(components, step.peer, progress.unit, error);
  if (writer.bytes > 0) await startOver(attempt);
}

/** The sender is not asked for this path again for a while. */
function blame({ logger, grudges }: AcquireComponents, sender: string, { path }: Unit, error: Error): void {
  logger.warn({ sender, storePath: path.storePath, error: error.message }, 'a path with wrong content is refused');
  grudges.blame(sender, path.narHash);
}

async function startOver(attempt: Attempt): Promise<void> {
  forgetBytes(attempt);
  await attempt.writer.reset();
}

function forgetBytes({ progress, contributors }: Attempt): void {
  contributors.clear();
  progress.bytes = 0;
  progress.generation += 1;
  progress.notify();
}

/** Asking the same peers again would not help. */
function isFinal(error: unknown): boolean {
  return error instanceof ParleyError && (error.code === 'content-mismatch' || !error.retryable);
}

function worstOf(unit: Unit, failures: readonly unknown[]): ParleyError {
  const mismatch = failures.find((error) => error instanceof ParleyError && error.code === 'content-mismatch');
  if (mismatch instanceof ParleyError) return mismatch;
  const cause = failures.at(-1);
  const last = cause instanceof Error ? cause.message : 'nobody is known to have it';
  return new ParleyError('closure-unavailable', `'${unit.path.storePath}' could not be fetched: ${last}`, {
    hint: 'See which peers are online and have this closure; what was fetched is kept.',
    retryable: true,
    cause,
  });
}
