/* The public teacher in the page: a ResNet-20 with folded BatchNorms (kdlib/models/resnet.py), and what is made of its
answers. vendor/teacher/resnet20.js brings lab.teacher; TensorFlow.js computes, in float32, on the processor. */

(function (lab) {
  "use strict";

  const BLOCKS = 3;
  let network; // name of a weight -> tensor, made with the first question

  function decoded(teacher) {
    const bytes = Uint8Array.from(atob(teacher.values), (c) => c.charCodeAt(0));
    const values = new Float32Array(bytes.buffer), tensors = {};
    let start = 0;
    for (const [name, shape] of Object.entries(teacher.shapes)) {
      const size = shape.reduce((a, b) => a * b, 1);
      tensors[name] = tf.tensor(values.slice(start, (start += size)), shape);
    }
    return tensors;
  }

  /* Pictures as jda.js has them -> normalised, [B, 32, 32, 3]. */
  function normalised(images, teacher) {
    const planes = tf.tensor(Float32Array.from(images.flatMap((image) => [...image])), [images.length, 3, 32, 32]);
    return planes.transpose([0, 2, 3, 1]).div(255).sub(tf.tensor(teacher.mean)).div(tf.tensor(teacher.std));
  }

  function conv(x, name, stride, padding) {
    return tf.conv2d(x, network[`${name}.weight`], stride, padding).add(network[`${name}.bias`]);
  }

  function block(x, name, stride) {
    const inner = conv(conv(x, `${name}.conv1`, stride, 1).relu(), `${name}.conv2`, 1, 1);
    const shortcut = stride > 1 ? conv(x, `${name}.downsample.0`, stride, 0) : x;
    return inner.add(shortcut).relu();
  }

  /* What is missing, in one sentence, or "". */
  lab.lacks = function () {
    if (typeof tf === "undefined") return "TensorFlow.js is not in this copy of the book, so no teacher answers here.";
    return lab.teacher ? "" : "The teacher's weights are not in this copy of the book, so no teacher answers here.";
  };

  /* The raw scores of the 100 classes for each picture: a promise of a list of Float32Arrays. */
  lab.logits = async function (images) {
    await tf.setBackend("cpu"); // a graphics card may compute in half precision
    network = network || decoded(lab.teacher);
    const scores = tf.tidy(() => {
      let x = conv(normalised(images, lab.teacher), "conv1", 1, 1).relu();
      for (const stage of [1, 2, 3])
        for (let k = 0; k < BLOCKS; k++) x = block(x, `layer${stage}.${k}`, stage > 1 && k === 0 ? 2 : 1);
      return x.mean([1, 2]).matMul(network["fc.weight"]).add(network["fc.bias"]).unstack();
    });
    return scores.map((row) => {
      const values = row.dataSync();
      row.dispose();
      return values;
    });
  };

  lab.softmax = function (logits, temperature) {
    const top = Math.max(...logits), raised = Array.from(logits, (z) => Math.exp((z - top) / temperature));
    const total = raised.reduce((a, b) => a + b, 0);
    return raised.map((value) => value / total);
  };

  /* The largest answers, as [class name, probability]. */
  lab.largest = function (logits, temperature, count) {
    const named = lab.softmax(logits, temperature).map((share, k) => [lab.teacher.classes[k].replace(/_/g, " "), share]);
    return named.sort((a, b) => b[1] - a[1]).slice(0, count);
  };

  lab.cosine = function (a, b) {
    const dot = (u, v) => u.reduce((sum, value, k) => sum + value * v[k], 0);
    return limit(dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)));
  };

  const limit = (cosine) => Math.min(1, Math.max(-1, cosine));
})((window.kdlab = window.kdlab || {}));
