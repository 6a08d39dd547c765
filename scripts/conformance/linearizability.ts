// Owns the judge of histories: is there one order of all operations, each between its call and its return, that a single
// copy of the data could have answered so? Search after Wing and Gong (1993) with Lowe's memory of what was tried (2017),
// each key on its own, as a history is linearizable exactly when each key's part is (Horn and Kroening, 2015).

/** One operation as its caller saw it. */
export interface Operation<Input, Output> {
  /** Operations on different keys do not touch each other. */
  readonly key: string;
  readonly input: Input;
  /** Undefined when the caller never learned it: the operation took effect at any time after its call, or never. */
  readonly output: Output | undefined;
  /** Positions in the history; all different. The return of an operation without output counts for nothing. */
  readonly calledAt: number;
  readonly returnedAt: number;
}

/** What one key's data does. States are text, so that equal ones can be recognised. */
export interface Model<Input, Output> {
  readonly initial: string;
  /** The state after the operation, or undefined when it cannot have had this output. Unknown outputs fit any state. */
  step(state: string, input: Input, output: Output | undefined): string | undefined;
}

export type Verdict = 'linearizable' | 'not-linearizable' | 'undecided';

/** Characters of the configurations that are remembered for one key; a search that needs more ends undecided. */
const rememberedCharsMax = 2 ** 28;

/** Judges a whole history. */
export function judge<Input, Output>(
  model: Model<Input, Output>,
  history: readonly Operation<Input, Output>[],
  charsMax = rememberedCharsMax,
): Verdict {
  let verdict: Verdict = 'linearizable';
  for (const operations of Map.groupBy(history, ({ key }) => key).values()) {
    const found = new Search(model, operations, charsMax).run();
    if (found === 'not-linearizable') return found;
    if (found === 'undecided') verdict = found;
  }
  return verdict;
}

/** A call or a return in the list of what is not placed yet; the returned ones of a call know each other. */
interface Happening {
  readonly operation: number;
  readonly isCall: boolean;
  previous: Happening | undefined;
  next: Happening | undefined;
}

interface Placed {
  readonly state: string;
  readonly call: Happening;
}

/** Depth-first over one key: always place a call that no unplaced operation's return precedes. */
class Search<Input, Output> {
  readonly #model: Model<Input, Output>;
  readonly #operations: readonly Operation<Input, Output>[];
  readonly #charsMax: number;
  readonly #head: Happening = { operation: -1, isCall: false, previous: undefined, next: undefined };
  readonly #returns = new Map<number, Happening>();
  /** Unknown outcomes with equal inputs are interchangeable: `kind` numbers the inputs. */
  readonly #kinds: readonly (number | undefined)[];
  readonly #placedOfKind: number[];
  readonly #isPlaced: boolean[];
  readonly #seen = new Set<string>();
  #seenChars = 0;
  /** All operations with an output before this one are placed. */
  #firstOpen = 0;
  #open: number;

  constructor(model: Model<Input, Output>, operations: readonly Operation<Input, Output>[], charsMax: number) {
    this.#model = model;
    this.#charsMax = charsMax;
    this.#operations = operations.toSorted((a, b) => a.calledAt - b.calledAt);
    const kinds = new Map<string, number>();
    this.#kinds = this.#operations.map(({ input, output }) => {
      if (output !== undefined) return undefined;
      const text = JSON.stringify(input);
      const kind = kinds.get(text) ?? kinds.size;
      kinds.set(text, kind);
      return kind;
    });
    this.#placedOfKind = Array.from({ length: kinds.size }, () => 0);
    this.#isPlaced = this.#operations.map(() => false);
    this.#open = this.#operations.filter(({ output }) => output !== undefined).length;
    this.#link();
  }

  run(): Verdict {
    const path: Placed[] = [];
    let state = this.#model.initial;
    let at = this.#head.next;
    while (this.#open > 0) {
      const after = at?.isCall ? this.#tryToPlace(at, state) : undefined;
      if (at && after !== undefined) {
        path.push({ state, call: at });
        state = after;
        at = this.#head.next;
        if (this.#seenChars > this.#charsMax) return 'undecided';
      } else if (at?.isCall) {
        at = at.next;
      } else {
        // Whatever returned here had to be placed before: the last choice was wrong.
        const last = path.pop();
        if (last === undefined) return 'not-linearizable';
        this.#takeBack(last.call);
        state = last.state;
        at = last.call.next;
      }
    }
    return 'linearizable';
  }

  #link(): void {
    const happenings = this.#operations.flatMap(({ calledAt, returnedAt, output }, operation) => {
      const call = { position: calledAt, operation, isCall: true };
      return output === undefined ? [call] : [call, { position: returnedAt, operation, isCall: false }];
    });
    let previous = this.#head;
    for (const { operation, isCall } of happenings.sort((a, b) => a.position - b.position)) {
      const happening: Happening = { operation, isCall, previous, next: undefined };
      previous.next = happening;
      if (!isCall) this.#returns.set(operation, happening);
      previous = happening;
    }
  }

  /** The state after placing this call next; undefined when that is impossible, useless or was tried before. */
  #tryToPlace(call: Happening, state: string): string | undefined {
    const operation = this.#operations[call.operation];
    if (!operation) return undefined;
    const after = this.#model.step(state, operation.input, operation.output);
    // An unknown outcome that changes nothing may as well have had no effect.
    if (after === undefined || (operation.output === undefined && after === state)) return undefined;
    this.#place(call);
    const key = this.#configuration(after);
    if (this.#seen.has(key)) {
      this.#takeBack(call);
      return undefined;
    }
    this.#seen.add(key);
    this.#seenChars += key.length;
    return after;
  }

  #place(call: Happening): void {
    this.#isPlaced[call.operation] = true;
    unlink(call);
    const kind = this.#kinds[call.operation];
    if (kind !== undefined) {
      this.#placedOfKind[kind] = (this.#placedOfKind[kind] ?? 0) + 1;
      return;
    }
    const end = this.#returns.get(call.operation);
    if (end) unlink(end);
    this.#open -= 1;
    while (this.#isSettled(this.#firstOpen)) this.#firstOpen += 1;
  }

  #takeBack(call: Happening): void {
    this.#isPlaced[call.operation] = false;
    const kind = this.#kinds[call.operation];
    if (kind === undefined) {
      const end = this.#returns.get(call.operation);
      if (end) relink(end);
      this.#open += 1;
      this.#firstOpen = Math.min(this.#firstOpen, call.operation);
    } else this.#placedOfKind[kind] = (this.#placedOfKind[kind] ?? 0) - 1;
    relink(call);
  }

  /** Placed, or of unknown outcome, which is remembered by kind. */
  #isSettled(operation: number): boolean {
    if (operation >= this.#operations.length) return false;
    return this.#isPlaced[operation] === true || this.#kinds[operation] !== undefined;
  }

  /** What is placed and the state: all that the rest of the search depends on. */
  #configuration(state: string): string {
    // What was called after the first open operation returned cannot be placed yet.
    const horizon = this.#operations[this.#firstOpen]?.returnedAt ?? 0;
    let window = '';
    for (let at = this.#firstOpen + 1; (this.#operations[at]?.calledAt ?? horizon) < horizon; at += 1) {
      if (this.#kinds[at] === undefined) window += this.#isPlaced[at] ? '1' : '0';
    }
    return `${this.#firstOpen} ${window} ${this.#placedOfKind.join(',')} ${state}`;
  }
}

function unlink({ previous, next }: Happening): void {
  if (previous) previous.next = next;
  if (next) next.previous = previous;
}

/** Undoes unlink(); the last that was unlinked must come first. */
function relink(happening: Happening): void {
  if (happening.previous) happening.previous.next = happening;
  if (happening.next) happening.next.previous = happening;
}
