// Owns what touches the machine: external programs (execa lives here and nowhere else), the log stream (pino lives here
// and nowhere else) and the clock. Every other room gets these as components and can be tested without them.

export { systemClock } from './clock.ts';
export { createLogger, type LoggerInit, type LogLevel } from './logger.ts';
export { createProcessRunner } from './process.ts';
