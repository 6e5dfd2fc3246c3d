// onnxruntime-web's WebGPU build, a module of its own: 17 MB that only a page loads which asks for the device.
export { env, InferenceSession, Tensor } from "onnxruntime-web/jspi";
