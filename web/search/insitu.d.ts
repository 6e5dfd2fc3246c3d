// What "./insitu.js" is once it is built.
export * from "../src/index.ts";
