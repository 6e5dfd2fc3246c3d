import type { Plugin } from "vite";

/** Serves the files of the package as they are while you develop. */
export default function insitu(): Plugin;
