// Owns the question "who voted at index n": the configuration at the log's start and after each configuration entry that
// was applied. It is derived from the log alone, so nothing else needs to be stored.

import type { Configuration, RaftEntry } from '../../../protocols/consensus-record.ts';
import { ParleyError } from '../../../protocols/errors.ts';
import { changeMembership, configurationOf, ImpossibleChange, restoreMembership } from './configuration.ts';
import { changeOf } from './membership.ts';

const noWindow = { inflightMessagesMax: 1, inflightBytesMax: 1 };

export class ConfigurationHistory {
  #steps: { readonly index: number; readonly configuration: Configuration }[];

  constructor(index: number, configuration: Configuration) {
    this.#steps = [{ index, configuration }];
  }

  /** Takes the next applied entry; returns the configuration in force after it if the entry is of that kind. */
  take(entry: RaftEntry): Configuration | undefined {
    if (entry.type !== 'configuration') return undefined;
    const known = this.#steps.find((step) => step.index === entry.index);
    if (known) return known.configuration;
    const configuration = nextConfiguration(this.current(), entry.data);
    this.#steps.push({ index: entry.index, configuration });
    return configuration;
  }

  current(): Configuration {
    return this.at(Number.POSITIVE_INFINITY);
  }

  /** Where the current configuration came into force; at the earliest the start. */
  currentSince(): number {
    return this.#steps.at(-1)?.index ?? 0;
  }

  /** The configuration in force after the entry at an index, which must not lie before the start. */
  at(index: number): Configuration {
    const step = this.#steps.findLast((candidate) => candidate.index <= index) ?? this.#steps[0];
    if (step === undefined) throw new Error('a history has a start');
    return step.configuration;
  }

  /** Forgets what lies before an index. */
  compact(index: number): void {
    const configuration = this.at(index);
    this.#steps = [{ index, configuration }, ...this.#steps.filter((step) => step.index > index)];
  }
}

/** What a configuration entry makes of a configuration; one that is impossible changes nothing, as in the core. */
function nextConfiguration(configuration: Configuration, data: Uint8Array): Configuration {
  try {
    const membership = restoreMembership(configuration, 1, noWindow);
    return configurationOf(changeMembership(membership, changeOf(data), 1, noWindow).members);
  } catch (error) {
    if (error instanceof ImpossibleChange || error instanceof ParleyError) return configuration;
    throw error;
  }
}
