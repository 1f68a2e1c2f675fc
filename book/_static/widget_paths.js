// Where the modules of the vendored html-manager lie, seen from a chapter: their fonts are found beside them.
"use strict";

const WIDGETS = "../_static/vendor/widgets/@jupyter-widgets/html-manager/dist";
requirejs.config({ paths: { "@jupyter-widgets": WIDGETS, "@jupyter-widgets/html-manager/dist": WIDGETS } });
