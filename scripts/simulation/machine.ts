// Owns the simulated machine under a device: what runs, what boots, and a switch that takes time and may fail. Its state
// outlives the peer's process; a power cut brings back what the profile names.

import type { Machine, SwitchResult } from '../../node/device/index.ts';
import type { Chance } from './chance.ts';
import type { Life, VirtualTime } from './time.ts';

/** The hardware and its disks, as far as switching sees them. */
export interface MachineState {
  running: string | null;
  profile: string | null;
  booted: string | null;
  boots: number;
}

export interface SimulatedMachineInit {
  readonly time: VirtualTime;
  readonly chance: Chance;
  readonly life: Life;
  readonly state: MachineState;
  /** The new system's own program begins to run: an order is being executed. */
  readonly onExecute: (toplevel: string) => void;
}

export function newMachine(): MachineState {
  return { running: null, profile: null, booted: null, boots: 1 };
}

/** The power was away: what the profile names runs. */
export function reboot(state: MachineState): void {
  state.boots += 1;
  state.running = state.profile;
  state.booted = state.profile;
}

export function createSimulatedMachine({ time, chance, life, state, onExecute }: SimulatedMachineInit): Machine {
  /** Something that takes time and leaves a trace, unless the process dies first. */
  function effect<T>(leastMs: number, mostMs: number, label: string, call: () => T): Promise<T> {
    return new Promise((resolve) => {
      time.schedule(chance.between(leastMs, mostMs), life, label, () => resolve(call()));
    });
  }

  function tryOut(toplevel: string): SwitchResult {
    const luck = chance.below(20);
    if (luck === 0) return { exitCode: 2, output: 'Failed to run activate script' };
    state.running = toplevel;
    return luck === 1 ? { exitCode: 4, output: 'a unit failed' } : { exitCode: 0, output: '' };
  }

  return {
    prepare: async () => undefined,
    canRun: async () => ({ kind: 'contained', why: '' }),
    switchToConfiguration(toplevel, action, options = {}) {
      if (action === 'boot') return effect(1, 20, 'sets the boot default', () => ({ exitCode: 0, output: '' }));
      if (options.skipChecks) {
        return effect(10, 100, 'switches back', () => {
          state.running = toplevel;
          return { exitCode: 0, output: '' };
        });
      }
      onExecute(toplevel);
      return effect(10, 200, 'switches', () => tryOut(toplevel));
    },
    failedUnits: async () => [],
    running: async () => state.running,
    booted: async () => state.booted,
    setRunningSimulated: (toplevel) =>
      effect(1, 5, 'takes back', () => {
        state.running = toplevel;
      }),
    profile: async () => state.profile,
    setProfile: (toplevel) =>
      effect(1, 20, 'sets the profile', () => {
        state.profile = toplevel;
      }),
    bootId: async () => `boot-${state.boots}`,
    freeBytes: async () => 1e12,
  };
}
