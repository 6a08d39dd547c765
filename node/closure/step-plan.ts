// Owns the order in which a peer tries to get one path: from the site first, across the uplink only when it is in charge,
// and by way of the neighbour in charge otherwise. Pure, so that the rule "once per site" can be read and tested here.

/** What is known when the next step is chosen. Lists are in order of preference and leave out who is not to be asked. */
export interface StepFacts {
  readonly self: string;
  /** The site's live peers, this one included, in order of takeover. */
  readonly order: readonly string[];
  /** A neighbour asked this peer to bring the path: it sees nobody before us. */
  readonly asked: boolean;
  /** Site peers that have the whole path. */
  readonly holders: readonly string[];
  /** Site peers to which the path is on its way across the uplink now. */
  readonly receivers: readonly string[];
  /** Site peers that have more of it than we do, left by a transfer that broke. */
  readonly partialHolders: readonly string[];
  /** Peers of other sites that have it. */
  readonly sources: readonly string[];
  /** Steps tried in this round, as stepKey writes them. */
  readonly tried: ReadonlySet<string>;
}

/**
 * copy: a site peer has it. follow: a site peer is receiving it. gather: ask the site peer in charge. adopt: take over what
 * a site peer has of it. cross: fetch it across the uplink. resign: let go of the charge, nobody across could serve it.
 */
export type Step =
  | { readonly kind: 'copy' | 'follow' | 'gather' | 'adopt' | 'cross'; readonly peer: string }
  | { readonly kind: 'resign'; readonly peer: string };

/** The next step of a round, or undefined when everything was tried. */
export function nextStep(facts: StepFacts): Step | undefined {
  const { self, order, asked } = facts;
  const steps: Step[] = [
    ...facts.holders.map((peer) => ({ kind: 'copy', peer }) as const),
    ...facts.receivers.map((peer) => ({ kind: 'follow', peer }) as const),
  ];
  for (const leader of asked ? [self, ...order] : order) {
    if (leader === self) {
      steps.push(...facts.partialHolders.map((peer) => ({ kind: 'adopt', peer }) as const));
      steps.push(...facts.sources.map((peer) => ({ kind: 'cross', peer }) as const));
      steps.push({ kind: 'resign', peer: self });
    } else {
      steps.push({ kind: 'gather', peer: leader });
    }
  }
  return steps.find((step) => !facts.tried.has(stepKey(step)));
}

/** One name for a step, to remember that it was tried. */
export function stepKey(step: Step): string {
  return `${step.kind} ${step.peer}`;
}

/** Whether a step is taken as the one in charge of the uplink. */
export function isCharge(step: Step): boolean {
  return step.kind === 'adopt' || step.kind === 'cross';
}
