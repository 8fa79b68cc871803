// Stands for a bundler: makes static files from the source and a Node package.
const fs = require("fs");
const ms = require("ms");

fs.mkdirSync("static/dist", { recursive: true });
fs.writeFileSync("static/dist/app.js", `const day = ${ms("1 day")};\n`);
