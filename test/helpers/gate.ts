// Holds callers of a test double back until the test lets them go on, and tells the test that somebody has come.

interface Closing {
  readonly entered: PromiseWithResolvers<void>;
  readonly opened: PromiseWithResolvers<void>;
}

export class Gate {
  #closing: Closing | undefined;

  /** Waits while the gate is shut. */
  async pass(): Promise<void> {
    this.#closing?.entered.resolve();
    await this.#closing?.opened.promise;
  }

  /** `entered` resolves once somebody waits at the gate. */
  shut(): { readonly entered: Promise<void>; readonly open: () => void } {
    const closing = { entered: Promise.withResolvers<void>(), opened: Promise.withResolvers<void>() };
    this.#closing = closing;
    const open = (): void => {
      this.#closing = undefined;
      closing.opened.resolve();
    };
    return { entered: closing.entered.promise, open };
  }
}
