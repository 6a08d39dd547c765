// Owns what every card is told about where it will be shown.

import type { Paint } from './paint.ts';
import { columnsMax } from './words.ts';

export { columnsMax };

export interface CardContext {
  readonly paint: Paint;
  /** Columns to keep to. */
  readonly columns: number;
  /** Now, for "offline 3 min". */
  readonly nowMs: number;
}
