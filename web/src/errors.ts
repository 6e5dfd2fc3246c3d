/** An error that insitu raises on purpose. `code` is stable; the message is for people and says what to do. */
export class InsituError extends Error {
  constructor(
    readonly code: string,
    message: string,
    override readonly name: string = "InsituError",
  ) {
    super(message);
  }
}

/** The error of a call that its caller ended. Its name is the platform's, so `error.name === "AbortError"` holds. */
export function aborted(): InsituError {
  return new InsituError("aborted", "The call was ended by its caller.", "AbortError");
}

/** What crosses a thread of any thrown thing. Not every thrown thing is an Error. */
export function plainError(error: unknown): { name: string; message: string; code: string } {
  if (error instanceof InsituError) return { name: error.name, message: error.message, code: error.code };
  if (error instanceof Error) return { name: error.name, message: error.message, code: "internal" };
  return { name: "Error", message: String(error), code: "internal" };
}
