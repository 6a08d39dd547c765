// Owns the choice of a builder for a job: one that is online and builds for the system, the controller's own first, so that
// nothing crosses the mesh without need.

import { ParleyError } from '../../protocols/errors.ts';
import type { LedgerState } from '../../protocols/ledger-state.ts';
import type { ControlBuilder, ControlComponents } from './control-types.ts';

export interface ChosenBuilder {
  readonly peer: string;
  readonly name: string;
  readonly builder: ControlBuilder;
}

export interface BuilderWish {
  /** Nix system that must be built for; absent: any builder will do. */
  readonly system?: string;
  /** The builder that has begun this job already. */
  readonly preferred?: string | null;
}

/** @throws ParleyError `no-builder` (retryable) while no fitting builder is online. */
export function chooseBuilder(
  state: LedgerState,
  wish: BuilderWish,
  components: Pick<ControlComponents, 'builderAt' | 'mesh'> & { readonly isOnline: (peer: string) => boolean },
): ChosenBuilder {
  const builders = Object.values(state.members).filter((member) => member.roles.includes('builder'));
  const fitting = builders.filter((member) => wish.system === undefined || member.system === wish.system);
  const rank = (peer: string) => (peer === wish.preferred ? 0 : peer === components.mesh.self ? 1 : 2);
  const online = fitting
    .filter((member) => components.isOnline(member.peer))
    .sort((a, b) => rank(a.peer) - rank(b.peer) || (a.name < b.name ? -1 : 1))[0];
  if (online !== undefined) {
    return { peer: online.peer, name: online.name, builder: components.builderAt(online.peer) };
  }
  const kind = wish.system === undefined ? 'builder' : `builder for ${wish.system}`;
  const names = fitting.map((member) => member.name).sort();
  const offline =
    names.length > 0 ? `${names.join(', ')} ${names.length > 1 ? 'are' : 'is'} offline` : 'the fleet has none';
  throw new ParleyError('no-builder', `no ${kind} is online: ${offline}`, {
    retryable: true,
    hint: 'Start one, or invite a peer with the role builder.',
  });
}
