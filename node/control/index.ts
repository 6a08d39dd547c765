// The control room: what people and front ends ask of a peer. Commands are judged and carried out at the controller; the
// coordinator there does the work that follows. Front ends themselves use client.ts, which loads none of this.

export type { Applicant } from './admission.ts';
export type { BeatFacts } from './beats.ts';
export { type Control, type ControlInit, createControl } from './control.ts';
export type {
  ControlBuilder,
  ControlComponents,
  ControlJournal,
  ControlLedger,
  ControlProject,
  ControlVoters,
  Leadership,
} from './control-types.ts';
export type { VoterChange, VoterFacts } from './voters-core.ts';
