// The device room: makes an ordered closure the running system, step by step and each step on disk first, and goes back
// by itself when that cannot be proven to have worked.

export { createDevice } from './device.ts';
export { isBeforeArming } from './device-core.ts';
export type {
  Device,
  DeviceActivity,
  DeviceComponents,
  DeviceInit,
  Machine,
  SwitchKind,
  SwitchOptions,
  SwitchResult,
} from './device-types.ts';
