// Owns what is known of commits: their hosts, their policy, what was evaluated of them, and plans. All of it are blobs or
// can be evaluated again, so that this is a bounded memory and no state.

import { buildResultBytesMax, type Evaluation, evaluationSchema } from '../../protocols/build-job.ts';
import { decode } from '../../protocols/codec.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import { type Plan, planBytesMax, planSchema } from '../../protocols/plan.ts';
import { chooseBuilder } from './builders.ts';
import type { ControlComponents } from './control-types.ts';

/** Evaluations kept: the commits that people work with at a time. */
const evaluationsMax = 16;
const plansMax = 32;

/** A commit's hosts and its unchecked output `parley`. */
export type Described = Pick<Evaluation, 'revision' | 'hostNames' | 'parley'>;

export interface Catalogue {
  readonly evaluations: ReadonlyMap<string, Evaluation>;
  readonly plans: ReadonlyMap<string, Plan>;
  /** Reads an evaluation's or plan's blob, from here or elsewhere. @throws ParleyError `blob-unavailable` (retryable). */
  readEvaluation(hash: string, signal: AbortSignal): Promise<Evaluation>;
  readPlan(hash: string, signal: AbortSignal): Promise<Plan>;
  /** What is known of a commit without asking a builder. */
  described(revision: string): Described | undefined;
  /**
   * A commit's hosts and policy: from what was evaluated before, else a builder is asked.
   * @throws ParleyError `no-builder` (retryable) and those of evaluating.
   */
  describe(
    revision: string,
    options: { readonly signal: AbortSignal; readonly onAsking?: (builder: string) => void },
  ): Promise<Described>;
}

export function createCatalogue(
  components: Pick<ControlComponents, 'ledger' | 'builderAt' | 'mesh'> & {
    readonly isOnline: (peer: string) => boolean;
  },
): Catalogue {
  const evaluations = new Map<string, Evaluation>();
  const plans = new Map<string, Plan>();
  const descriptions = new Map<string, Described>();
  const { ledger } = components;

  async function readEvaluation(hash: string, signal: AbortSignal): Promise<Evaluation> {
    const known = evaluations.get(hash);
    if (known !== undefined) return known;
    const bytes = await ledger.fetchBlob(hash, { signal });
    const evaluation = decode(evaluationSchema, bytes, buildResultBytesMax, `evaluation '${hash.slice(0, 8)}'`);
    remember(evaluations, evaluationsMax, hash, evaluation);
    remember(descriptions, evaluationsMax, evaluation.revision, evaluation);
    return evaluation;
  }

  return {
    evaluations,
    plans,
    readEvaluation,
    described: (revision) => descriptions.get(revision),
    async readPlan(hash, signal) {
      const known = plans.get(hash);
      if (known !== undefined) return known;
      const bytes = await ledger.fetchBlob(hash, { signal });
      const plan = decode(planSchema, bytes, planBytesMax, `plan '${hash.slice(0, 8)}'`);
      remember(plans, plansMax, hash, plan);
      return plan;
    },
    async describe(revision, { signal, onAsking }) {
      const known = descriptions.get(revision);
      if (known !== undefined) return known;
      const hash = evaluationOf(ledger.state(), revision);
      if (hash !== undefined) return readEvaluation(hash, signal);
      const { builder, name } = chooseBuilder(ledger.state(), {}, components);
      onAsking?.(name);
      const description = await builder.evaluate({ revision, hosts: [] }, { signal });
      remember(descriptions, evaluationsMax, revision, description);
      return description;
    },
  };
}

function evaluationOf(state: LedgerState, revision: string): string | undefined {
  const task = Object.values(state.tasks).findLast((each) => each.revision === revision && each.evaluation !== null);
  return task?.evaluation ?? undefined;
}

function remember<T>(map: Map<string, T>, sizeMax: number, key: string, value: T): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > sizeMax) map.delete(map.keys().next().value ?? key);
}
