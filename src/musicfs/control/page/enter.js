// The first page after `musicfs page` has started the browser: keeps its token for this tab alone, and goes on.

import { saveToken } from "./api.js";

saveToken(document.querySelector("meta[name=musicfs-token]").content);
location.replace("/");
