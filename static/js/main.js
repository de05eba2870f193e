// What scripts add to every page. The pages work without them; each module improves one thing.
import "./copy.js";
import "./dialogs.js";
import "./theme.js";
import "./toasts.js";
import "./requests.js";
import "./picker.js";
import "./forms.js";
import "./upload.js";
import "./charts.js";
import "./timers.js";
