// Owns what touches the machine: external programs (execa lives here and nowhere else), the log stream (pino lives here
// and nowhere else) and the clock. Every other room gets these as components and can be tested without them.

export { systemClock } from './clock.ts';
export {
  type ContainedMachineComponents,
  type ContainedMachineInit,
  createContainedMachine,
} from './contained-switch.ts';
export { createLogger, type LoggerInit, type LogLevel } from './logger.ts';
export { createNix, type Nix, type NixProgram, type NixRequest, type RealiseOptions } from './nix.ts';
export type { NixSettings } from './nix-environment.ts';
export type { PathInfo } from './nix-format-core.ts';
export { createProcessRunner } from './process.ts';
export { createRecordingRunner } from './recording-runner.ts';
