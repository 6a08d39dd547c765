// Owns the data types that histories are judged by: a register with compare-and-swap, and text under a key.

import type { Model } from './linearizability.ts';

export type RegisterInput =
  | { readonly kind: 'read' }
  | { readonly kind: 'write'; readonly value: string }
  | { readonly kind: 'cas'; readonly old: string; readonly value: string };
/** A read's value; otherwise whether the write or swap took place. */
export type RegisterOutput = string | boolean;

/** Holds `nil` until somebody writes. */
export const registerModel: Model<RegisterInput, RegisterOutput> = {
  initial: 'nil',
  step(state, input, output) {
    if (input.kind === 'read') return output === undefined || output === state ? state : undefined;
    const takesPlace = input.kind === 'write' || input.old === state;
    if (output !== undefined && output !== takesPlace) return undefined;
    return takesPlace ? input.value : state;
  },
};

export interface TextInput {
  readonly kind: 'get' | 'put' | 'append';
  readonly value: string;
}

/** One key's text, empty at first; a get's output is all of it, the others' is empty. */
export const textModel: Model<TextInput, string> = {
  initial: '',
  step(state, { kind, value }, output) {
    if (kind === 'get') return output === undefined || output === state ? state : undefined;
    return kind === 'put' ? value : state + value;
  },
};
